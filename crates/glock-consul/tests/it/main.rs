//! What only Consul can get wrong.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test tells what it measured, and a fixture that fails is a failed test"
)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod expiry;
mod fencing;
mod gateway;
mod leaks;
mod operator;
mod sessions;
mod silence;
mod telemetry;
mod transfer;
mod transfer_races;
mod waiting;
mod watch;
