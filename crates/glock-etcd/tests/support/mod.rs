//! Locks for tests, and their queues.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod admin;
pub(crate) mod cluster;
pub(crate) mod fixture;

use std::time::Duration;

use glock_core::{LockExt, Retry};
use glock_etcd::{EtcdLock, Lease, LockConfig, LockId, connect_options};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use self::admin::{Admin, Owned};

/// The endpoints to test against.
pub(crate) fn url() -> Vec<String> {
    let url = glock_testing::url_from_env("GLOCK_ETCD_URL", "etcd");
    url.split(',').map(ToOwned::to_owned).collect()
}

/// A TTL that does not run out during a test.
pub(crate) const TTL: Duration = Duration::from_secs(30);
/// How long what is due at once may take on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(5);

pub(crate) fn lock(endpoints: &[String], namespace: &str) -> EtcdLock {
    let config = LockConfig::default().with_namespace(namespace);
    EtcdLock::from_endpoints(endpoints.to_vec(), connect_options()).with_config(config).unwrap()
}

pub(crate) fn id(name: &str) -> LockId {
    LockId::new(name).unwrap()
}

/// Waits for `x` in a task.
pub(crate) fn wait_for_x(lock: &EtcdLock) -> JoinHandle<Lease> {
    let lock = lock.clone();
    tokio::spawn(async move {
        lock.acquire_with_retry("x", TTL, Retry::within(Duration::from_mins(1))).await.unwrap()
    })
}

/// The queue for `x`, holder included, once it has so many keys.
pub(crate) async fn queue(admin: &Admin, namespace: &str, wanted: usize) -> Vec<Owned> {
    let since = Instant::now();
    loop {
        let queue = admin.queue(namespace, &id("x")).await;
        if queue.len() == wanted {
            return queue;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{} in the queue", queue.len());
        sleep(Duration::from_millis(20)).await;
    }
}
