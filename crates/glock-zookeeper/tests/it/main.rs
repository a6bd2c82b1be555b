//! What only ZooKeeper can get wrong: sessions, permissions, and the servers' queue.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stdout, reason = "what a run with faults has measured")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "a part of it is for the other tests")]
mod support;

mod access;
mod expiry;
mod interrupted;
mod leaks;
mod lost_replies;
mod runtimes;
mod secrets;
mod silence;
mod telemetry;
mod transfer;
mod waiting;

/// Where the suite's servers are.
fn servers() -> String {
    glock_testing::url_from_env("GLOCK_ZOOKEEPER_URL", "zookeeper")
}
