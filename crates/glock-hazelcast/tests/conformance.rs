//! The conformance suite against a real member: `GLOCK_HAZELCAST_URL` is its address.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its part is a failed test")]

#[allow(dead_code, reason = "a part of it is for the other tests")]
mod support;

use glock_testing::url_from_env;
use support::fixture::HazelcastMap;

/// Where the macro puts the test that holds a lock in another process.
const HOLDER_TEST: &str = "holder_process";

/// Where the suite's members are.
fn servers() -> String {
    url_from_env("GLOCK_HAZELCAST_URL", "hazelcast")
}

glock_testing::conformance!(
    HazelcastMap,
    "needs a server: run `cargo xtask integration hazelcast`"
);
glock_testing::admin_conformance!(
    HazelcastMap,
    "needs a server: run `cargo xtask integration hazelcast`"
);
