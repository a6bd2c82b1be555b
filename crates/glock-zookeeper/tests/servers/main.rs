//! What takes servers of our own, by the program that `GLOCK_ZOOKEEPER_SERVER` names.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stdout, reason = "what a run with faults has measured")]

#[path = "../fixture/mod.rs"]
#[allow(dead_code, reason = "a part of it is for the other tests")]
mod fixture;
#[path = "../fixture/members.rs"]
mod members;

mod late;
mod quorum;
mod residue;

/// Nobody opens a store here but at an ensemble of its own.
fn servers() -> String {
    unreachable!("each test starts its servers")
}
