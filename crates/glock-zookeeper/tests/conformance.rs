//! The conformance suite against a real ensemble: `GLOCK_ZOOKEEPER_URL` is its connect string.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its part is a failed test")]

#[allow(dead_code, reason = "a part of it is for the other tests")]
mod support;

use glock_testing::url_from_env;
use support::fixture::ZooKeeper;

/// Where the suite's servers are.
fn servers() -> String {
    url_from_env("GLOCK_ZOOKEEPER_URL", "zookeeper")
}

glock_testing::conformance!(ZooKeeper, "needs a server: run `cargo xtask integration zookeeper`");
glock_testing::admin_conformance!(
    ZooKeeper,
    "needs a server: run `cargo xtask integration zookeeper`"
);
