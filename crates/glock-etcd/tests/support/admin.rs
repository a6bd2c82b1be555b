//! `Admin`: the raw driver, to look at etcd past the lock.

use std::time::Duration;

use etcd_client::{Client, DeleteOptions, GetOptions, SortOrder, SortTarget};
use glock_etcd::{LockId, connect_options, etcd_client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

/// A client of the driver, past the lock.
pub(crate) struct Admin {
    pub(crate) client: Client,
}

/// A key of a holder or a waiter.
#[derive(Debug, Clone)]
pub(crate) struct Owned {
    pub(crate) key: String,
    pub(crate) suffix: String,
    pub(crate) secret: String,
    pub(crate) lease: i64,
    pub(crate) created: i64,
}

impl Admin {
    pub(crate) async fn connect(endpoints: &[String]) -> Self {
        let mut client = Client::connect(endpoints, Some(connect_options())).await.unwrap();
        client.status().await.expect("no etcd replies there: look at GLOCK_ETCD_URL");
        Self { client }
    }

    /// The first key of a lock: the holder's.
    pub(crate) async fn first(&self, namespace: &str, id: &LockId) -> Option<Owned> {
        self.queue(namespace, id).await.into_iter().next()
    }

    /// The keys of a lock, in the queue's order.
    pub(crate) async fn queue(&self, namespace: &str, id: &LockId) -> Vec<Owned> {
        let id = id.as_str().replace('%', "%25").replace('/', "%2F");
        self.under(&format!("{namespace}/{id}/")).await
    }

    /// The keys of holders and waiters in a namespace.
    pub(crate) async fn keys(&self, namespace: &str) -> Vec<Owned> {
        let all = self.under(&format!("{namespace}/")).await;
        let sessions = format!("{namespace}//");
        all.into_iter().filter(|owned| !owned.key.starts_with(&sessions)).collect()
    }

    /// How many keys a namespace has.
    pub(crate) async fn count(&self, namespace: &str) -> i64 {
        let options = GetOptions::new().with_prefix().with_count_only();
        let found = self.client.kv_client().get(format!("{namespace}/"), Some(options)).await;
        found.unwrap().count()
    }

    async fn under(&self, prefix: &str) -> Vec<Owned> {
        let options =
            GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend);
        let found = self.client.kv_client().get(prefix, Some(options)).await.unwrap();
        let owned = found.kvs().iter().map(|kv| {
            let key = kv.key_str().unwrap().to_owned();
            let suffix = key.rsplit('/').next().unwrap().to_owned();
            let value = kv.value_str().unwrap();
            let secret = value.split(' ').next().unwrap().to_owned();
            Owned { key, suffix, secret, lease: kv.lease(), created: kv.create_revision() }
        });
        owned.collect()
    }

    pub(crate) async fn delete(&self, key: &str) {
        self.client.kv_client().delete(key, None::<DeleteOptions>).await.unwrap();
    }

    /// How many leases the server has, of all clients.
    pub(crate) async fn leases(&self) -> usize {
        self.client.lease_client().leases().await.unwrap().leases().len()
    }
}

/// The sum over these servers of a metric whose lines are the ones that `which` takes.
pub(crate) async fn metric(endpoints: &[String], which: impl Fn(&str) -> bool) -> f64 {
    let mut sum = 0.0;
    for endpoint in endpoints {
        let metrics = get(endpoint, "/metrics").await;
        let lines = metrics.lines().filter(|line| which(line));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        sum += values.sum::<f64>();
    }
    sum
}

/// Waits until these servers watch keys for at least so many waiters.
pub(crate) async fn watched(endpoints: &[String], at_least: u16) {
    let since = Instant::now();
    let watchers = |line: &str| line.starts_with("etcd_debugging_mvcc_watcher_total ");
    while metric(endpoints, watchers).await < f64::from(at_least) {
        assert!(since.elapsed() < Duration::from_secs(10), "not {at_least} watches");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A server's reply to a plain HTTP request.
pub(crate) async fn get(endpoint: &str, path: &str) -> String {
    let host = endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}
