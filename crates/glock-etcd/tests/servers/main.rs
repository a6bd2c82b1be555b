//! What takes servers of our own, by the program that `GLOCK_ETCD_SERVER` names.
#![allow(clippy::print_stdout, reason = "a test prints what it measured")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod compaction;
mod failover;
mod leaks;
mod members;
mod pauses;
mod quorum;
mod runtimes;
mod transfer;
mod waiting;
