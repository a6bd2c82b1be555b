//! What the tests share.
#![allow(dead_code, reason = "three test programs share it, and each uses a part")]

pub(crate) mod admin;
pub(crate) mod cluster;
pub(crate) mod fake_server;
pub(crate) mod fixture;

use std::time::Duration;

use glock_redis::{FencingToken, Lease, LockId, OwnerToken};
use tokio::time::Instant;

/// A TTL that does not run out during a test.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// Long on the busiest machine, and so much less than [`LONG`] that no expiry comes within it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn id(name: &str) -> LockId {
    LockId::new(name).unwrap()
}

/// A lease on `x` that no lock of this test has granted.
pub(crate) fn foreign_lease() -> Lease {
    let owner = OwnerToken::random().unwrap();
    Lease::granted(id("x"), owner, FencingToken::new(1), Instant::now(), LONG)
}
