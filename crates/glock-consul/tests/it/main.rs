//! What only Consul can get wrong.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test tells what it measured, and a fixture that fails is a failed test"
)]

#[path = "../admin/mod.rs"]
mod admin;
mod fake;
mod support;

mod access;
mod beside;
mod crowd;
mod fencing;
mod gateway;
mod leaks;
mod moves;
mod operator;
mod sessions;
mod telemetry;
mod ttl;
mod watch;
