//! What takes members of our own, by the program that `GLOCK_HAZELCAST_SERVER` names.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stdout, reason = "what a run with faults has measured")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "a part of it is for the other tests")]
mod support;

mod faults;
mod storm;

/// No test of these holds a lock in another process.
const HOLDER_TEST: &str = "holder_process";

/// Each test starts a cluster of its own.
fn servers() -> String {
    unreachable!("each test starts its members")
}
