//! What takes servers of our own, by the program that `GLOCK_ZOOKEEPER_SERVER` names.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stdout, reason = "what a run with faults has measured")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "a part of it is for the other tests")]
mod support;

mod late_requests;
mod leaks;
mod quorum;

/// Each test starts an ensemble of its own.
fn servers() -> String {
    unreachable!("each test starts its servers")
}
