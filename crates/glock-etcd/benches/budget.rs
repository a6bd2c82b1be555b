//! A lock on etcd beside the bare driver doing the same transactions, on the server that
//! `GLOCK_ETCD_URL` names.

use std::{sync::Arc, time::Duration};

use glock_etcd::{
    EtcdLock, LockConfig, connect_options,
    etcd_client::{
        Client, Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget,
        Txn, TxnOp, WatchFilterType, WatchOptions, WatchStream,
    },
};
use glock_harness::bench::Raw;
use glock_testing::{fresh_namespace, url_from_env};

/// What an engineer would type: the same transactions, all on one lease, whose id is what the keys
/// end in.
#[derive(Clone)]
struct ByHand {
    client: Client,
    namespace: Arc<str>,
    lease: i64,
}

const TTL: i64 = 600;

impl ByHand {
    async fn connect(endpoints: &[String]) -> Self {
        let client = Client::connect(endpoints, Some(connect_options())).await;
        let client = client.expect("the endpoints of GLOCK_ETCD_URL");
        let lease = client.lease_client().grant(TTL, None).await;
        let lease = lease.expect("the server that GLOCK_ETCD_URL names").id();
        Self { client, namespace: fresh_namespace().into(), lease }
    }

    fn range(&self, name: &str) -> (String, String) {
        let lock = format!("{}/{name}", self.namespace);
        (format!("{lock}/"), format!("{lock}0"))
    }
}

impl Raw for ByHand {
    type Grant = (String, i64);
    type Listener = WatchStream;

    async fn acquire(&self, name: &str) -> (String, i64) {
        let (start, end) = self.range(name);
        let key = format!("{start}{:x}", self.lease);
        let first = GetOptions::new()
            .with_range(end.clone())
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_limit(1);
        let put = PutOptions::new().with_lease(self.lease);
        let empty = Compare::create_revision(start.clone(), CompareOp::Equal, 0).with_range(end);
        let txn = Txn::new()
            .when([empty])
            .and_then([TxnOp::put(key.clone(), "bench", Some(put))])
            .or_else([TxnOp::get(start, Some(first))]);
        let reply = self.client.kv_client().txn(txn).await.expect("a reply");
        assert!(reply.succeeded(), "a lock that is free");
        (key, reply.header().expect("a revision").revision())
    }

    async fn release(&self, _name: &str, (key, made): (String, i64)) {
        let delete = DeleteOptions::new().with_prev_key();
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), CompareOp::Equal, made)])
            .and_then([TxnOp::delete(key, Some(delete))]);
        let reply = self.client.kv_client().txn(txn).await.expect("a reply");
        assert!(reply.succeeded(), "a lock that is held");
    }

    async fn listen(&self, name: &str) -> WatchStream {
        let (start, end) = self.range(name);
        let options = WatchOptions::new().with_range(end).with_filters([WatchFilterType::NoPut]);
        let mut stream = self.client.watch_client().watch(start, Some(options)).await;
        let created = stream.as_mut().expect("a stream").message().await;
        assert!(created.expect("a reply").expect("a reply").created());
        stream.expect("a stream")
    }

    async fn released(&self, stream: &mut WatchStream) {
        while stream.message().await.expect("a stream").expect("an event").events().is_empty() {}
    }
}

fn main() -> std::process::ExitCode {
    let url = url_from_env("GLOCK_ETCD_URL", "etcd");
    let endpoints: Vec<_> = url.split(',').map(ToOwned::to_owned).collect();
    let config = LockConfig::default()
        .with_namespace(fresh_namespace())
        .with_call_timeout(Duration::from_secs(20));
    let lock = || {
        EtcdLock::from_endpoints(endpoints.clone(), connect_options()).with_config(config.clone())
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let holds = runtime.block_on(async {
        let (lock, second) = (lock().expect("settings"), lock().expect("settings"));
        let raw = ByHand::connect(&endpoints).await;
        glock_harness::bench::run("etcd", lock, second, raw).await
    });
    if holds { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
