//! What takes servers of its own, by the program that `GLOCK_CONSUL_SERVER` names.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test tells what it measured, and a fixture that fails is a failed test"
)]

#[path = "../support/mod.rs"]
mod support;

mod failover;
mod quorum;
