//! The conformance suite against a real ensemble: `GLOCK_ZOOKEEPER_URL` is its connect string.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its part is a failed test")]

mod fixture;

use fixture::ZooKeeper;

glock_testing::conformance!(ZooKeeper, "needs a server: run `cargo xtask integration zookeeper`");
