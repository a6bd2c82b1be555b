//! What only ZooKeeper can get wrong: sessions, the servers' queue, and the loss of members.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
#![allow(clippy::print_stdout, reason = "what a run with faults has measured")]

#[path = "../fixture/mod.rs"]
mod fixture;
#[path = "../fixture/cluster.rs"]
mod members;

mod acls;
mod leaks;
mod moves;
mod queue;
mod quorum;
mod runtimes;
mod secrets;
mod sessions;
mod turns;
