//! What the tests share.
#![allow(dead_code, reason = "several test programs share it, and each uses a part")]

pub(crate) mod admin;
pub(crate) mod cluster;
pub(crate) mod fixture;

use std::time::Duration;

use glock_mongodb::{Lock, LockExt, LockId, MongoLock, Retry};
use glock_testing::{process::eventually, url_from_env};
use tokio::{task::JoinHandle, time::timeout};

/// A TTL that does not run out during a test.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// Long enough to see that something does not happen.
pub(crate) const SHORT: Duration = Duration::from_millis(300);
/// Long on the busiest machine, and so much less than [`LONG`] that no expiry comes within it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The server that is given to a test program.
pub(crate) async fn server_url() -> String {
    std::future::ready(url_from_env("GLOCK_MONGODB_URL", "mongodb")).await
}

pub(crate) fn x() -> LockId {
    LockId::new("x").unwrap()
}

/// Takes and releases the lock `x`; its fencing token.
pub(crate) async fn pair(lock: &MongoLock) -> u64 {
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    lease.fence().get()
}

/// A task that waits for the held lock `x`, and takes and releases it; it sleeps, with its stream open.
pub(crate) async fn sleeping_waiter(lock: &MongoLock) -> JoinHandle<u64> {
    let waiter = tokio::spawn({
        let lock = lock.clone();
        async move {
            let wait = Retry::within(LONG).with_pause_max(LONG);
            let lease = lock.acquire_with_retry("x", LONG, wait).await.unwrap();
            lock.release(&lease).await.unwrap();
            lease.fence().get()
        }
    });
    eventually("the stream is open", SOON, async || watches(lock)).await;
    // The look that comes after that.
    tokio::time::sleep(SHORT).await;
    waiter
}

/// Whether the lock's change stream is open.
pub(crate) fn watches(lock: &MongoLock) -> bool {
    format!("{lock:?}").contains("watch: open,")
}

/// Whether the lock's other change stream is open: the one for callers that only sleep.
pub(crate) fn watches_releases(lock: &MongoLock) -> bool {
    format!("{lock:?}").contains("watch_releases: open,")
}

/// Waits for a waiter that is woken.
pub(crate) async fn woken(waiter: JoinHandle<u64>) -> u64 {
    timeout(SOON, waiter).await.expect("not woken").unwrap()
}

/// How many tasks this test's runtime has.
pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
