//! The conformance suite against a real ensemble: `GLOCK_ZOOKEEPER_URL` is its connect string.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its part is a failed test")]

mod fixture;

use fixture::ZooKeeper;
use glock_testing::url_from_env;

/// Where the suite's servers are.
fn servers() -> String {
    url_from_env("GLOCK_ZOOKEEPER_URL", "zookeeper")
}

glock_testing::conformance!(ZooKeeper, "needs a server: run `cargo xtask integration zookeeper`");
