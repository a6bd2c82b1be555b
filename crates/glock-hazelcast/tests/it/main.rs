//! What only Hazelcast can get wrong: key locks, records, connections of one client, CP sessions, editions.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "a part of it is for the other tests")]
mod support;

mod access;
mod admin;
mod connections;
mod fenced;
mod fencing;
mod refusals;
mod renewal;
mod secrets;
mod telemetry;
mod waiting;

/// No test of these holds a lock in another process.
const HOLDER_TEST: &str = "holder_process";

/// Where the suite's members are.
fn servers() -> String {
    glock_testing::url_from_env("GLOCK_HAZELCAST_URL", "hazelcast")
}
