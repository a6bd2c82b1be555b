//! A lock on ZooKeeper beside the bare driver sending the same transactions, on the servers that
//! `GLOCK_ZOOKEEPER_URL` names.
//!
//! Both take a lock by four operations: two ephemeral nodes, and a queue created and deleted, so that
//! no newcomer gets in before the waiters. The second table is beside two operations, without a look at the
//! queue.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use glock_harness::bench::Raw;
use glock_testing::{fresh_namespace, url_from_env};
use glock_zookeeper::{
    LockConfig, ZooKeeperLock,
    zookeeper_client::{Acls, Client, CreateMode, OneshotWatcher},
};

/// The same by hand, for an engineer who wants no newcomer to overtake the waiters: the same
/// transactions, and a watch.
#[derive(Clone)]
struct ByHand {
    client: Client,
    namespace: Arc<str>,
    owners: Arc<AtomicU64>,
    /// Without a look at the queue.
    is_bare: bool,
}

impl ByHand {
    async fn connect(cluster: &str) -> Self {
        let client = Client::connector().connect(cluster).await.expect("a session");
        let namespace: Arc<str> = format!("/{}", fresh_namespace()).into();
        let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
        client.create(&namespace, b"", &open).await.expect("a namespace");
        Self { client, namespace, owners: Arc::default(), is_bare: false }
    }

    fn lock(&self, name: &str) -> String {
        format!("{}/{name}@lock", self.namespace)
    }
}

impl Raw for ByHand {
    type Grant = String;
    type Listener = Option<OneshotWatcher>;

    async fn acquire(&self, name: &str) -> String {
        let owner = self.owners.fetch_add(1, Relaxed);
        let own = format!("{}/{name}@own-0-{owner:032x}", self.namespace);
        let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
        let made = {
            let mut writer = self.client.new_multi_writer();
            writer.add_create(&self.lock(name), b"0 bench", &ephemeral).expect("a path");
            writer.add_create(&own, b"", &ephemeral).expect("a path");
            if !self.is_bare {
                let queue = format!("{}/{name}@queue", self.namespace);
                let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
                writer.add_create(&queue, b"", &persistent).expect("a path");
                writer.add_delete(&queue, None).expect("a path");
            }
            writer.commit()
        };
        made.await.expect("a lock that is free");
        own
    }

    async fn release(&self, name: &str, own: String) {
        let deleted = {
            let mut writer = self.client.new_multi_writer();
            writer.add_delete(&own, None).expect("a path");
            writer.add_delete(&self.lock(name), None).expect("a path");
            writer.commit()
        };
        deleted.await.expect("a lock that is held");
    }

    async fn listen(&self, name: &str) -> Self::Listener {
        let (_, _, watcher) =
            self.client.get_and_watch_data(&self.lock(name)).await.expect("a lock that is held");
        Some(watcher)
    }

    async fn released(&self, listener: &mut Self::Listener) {
        // A watch fires once; the bench listens again in each turn.
        if let Some(listener) = listener.take() {
            listener.changed().await;
        }
    }
}

fn main() -> std::process::ExitCode {
    let cluster = url_from_env("GLOCK_ZOOKEEPER_URL", "zookeeper");
    let config = LockConfig::default().with_namespace(fresh_namespace());
    let lock = || ZooKeeperLock::new(Client::connector(), &*cluster).with_config(config.clone());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let holds = runtime.block_on(async {
        let (lock, second) = (lock().expect("settings"), lock().expect("settings"));
        let raw = ByHand::connect(&cluster).await;
        let holds = glock_harness::bench::run("zookeeper", lock.clone(), second, raw.clone()).await;
        let bare = ByHand { is_bare: true, ..raw };
        glock_harness::bench::beside("zookeeper", &lock, &bare).await;
        holds
    });
    if holds { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
