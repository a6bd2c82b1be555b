//! What takes servers of our own, by the program that `GLOCK_ETCD_SERVER` names.
#![allow(clippy::print_stdout, reason = "a test tells what it measured")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod compaction;
mod failover;
mod leaks;
mod members;
mod moves;
mod quorum;
mod runtimes;
mod waiters;

use common::line::{id, lock};
