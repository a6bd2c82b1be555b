//! What the tests share.
#![allow(dead_code, reason = "two test programs share it, and each uses a part")]

pub(crate) mod admin;
pub(crate) mod fixture;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use glock_sqlite::{Fault, Lock, LockError, LockId, SqliteLock};

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
pub(crate) async fn pair(lock: &SqliteLock) -> u64 {
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    lease.fence().get()
}

/// Asserts that a call was refused for good, and that its error says so.
pub(crate) fn assert_rejected<T>(result: Result<T, LockError>, says: &str) {
    let Err(err) = result else { panic!("it was not refused: {says}") };
    let text = glock_harness::chain(&err);
    assert_eq!(err.fault(), Some(Fault::Rejected), "{text}");
    assert!(text.contains(says), "{text}");
}

/// Where the files of all tests are: all processes of a case find the same one.
pub(crate) fn directory() -> PathBuf {
    let url = std::env::var("GLOCK_SQLITE_URL").ok();
    let beside = url.as_deref().and_then(|url| Path::new(url.strip_prefix("sqlite:")?).parent());
    let directory = beside.map_or_else(std::env::temp_dir, Path::to_owned);
    let directory = directory.join("glock-sqlite-tests");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}
