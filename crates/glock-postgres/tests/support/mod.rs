//! What the tests share.
#![allow(dead_code, reason = "two test programs share it, and each uses a part")]

pub(crate) mod admin;
pub(crate) mod fake_server;
pub(crate) mod fixture;

use std::time::Duration;

use glock_postgres::{Lock, LockId, PostgresLock};

/// A TTL that does not run out during a test.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// Long enough to see that something does not happen.
pub(crate) const SHORT: Duration = Duration::from_millis(300);
/// Long on the busiest machine, and so much less than [`LONG`] that no expiry comes within it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn x() -> LockId {
    LockId::new("x").unwrap()
}

/// Takes and releases the lock `x`; its fencing token.
pub(crate) async fn pair(lock: &PostgresLock) -> u64 {
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    lease.fence().get()
}

/// How many tasks this test's runtime has.
pub(crate) fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
