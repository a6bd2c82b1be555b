//! What only ZooKeeper can get wrong: sessions, and the servers' queue.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stdout, reason = "what a run with faults has measured")]

#[path = "../fixture/mod.rs"]
mod fixture;

mod acls;
mod leaks;
mod moves;
mod queue;
mod runtimes;
mod secrets;
mod sessions;
mod telemetry;
mod turns;

/// Where the suite's servers are.
fn servers() -> String {
    glock_testing::url_from_env("GLOCK_ZOOKEEPER_URL", "zookeeper")
}
