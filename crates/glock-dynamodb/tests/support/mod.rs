//! What the tests share.
#![allow(dead_code, reason = "two test programs share it, and each uses a part")]

pub(crate) mod admin;
pub(crate) mod fake_server;
pub(crate) mod fixture;

use std::{error::Error, fmt::Write, time::Duration};

use glock_dynamodb::{DynamoDbLock, Fault, Lock, LockError, LockId};

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

/// An error with all its causes.
pub(crate) fn chain(err: &LockError) -> String {
    let mut shown = format!("{err}");
    let mut cause = err.source();
    while let Some(err) = cause {
        write!(shown, ": {err}").unwrap();
        cause = err.source();
    }
    shown
}

#[track_caller]
pub(crate) fn assert_fault<T>(result: Result<T, LockError>, fault: Fault, says: &str) {
    let Err(err) = result else { panic!("it succeeded") };
    assert_eq!(err.fault(), Some(fault), "{}", chain(&err));
    assert!(chain(&err).contains(says), "`{says}` is not in: {}", chain(&err));
}
