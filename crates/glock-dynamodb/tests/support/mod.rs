//! What the tests share.
#![allow(dead_code, reason = "two test programs share it, and each uses a part")]

pub(crate) mod admin;
pub(crate) mod fake_server;
pub(crate) mod fixture;

use std::time::Duration;

use glock_dynamodb::{DynamoDbLock, Lock, LockId};

/// A TTL that does not run out during a test.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// The shortest TTL.
pub(crate) const BRIEF: Duration = Duration::from_secs(1);
/// Long on the busiest machine, and so much less than [`LONG`] that no expiry comes within it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn x() -> LockId {
    LockId::new("x").unwrap()
}

/// Takes and releases the lock `x`; its fencing token.
pub(crate) async fn pair(lock: &DynamoDbLock) -> u64 {
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    lease.fence().get()
}
