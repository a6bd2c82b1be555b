//! What only Consul can get wrong.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test tells what it measured, and a fixture that fails is a failed test"
)]

#[path = "../admin/mod.rs"]
mod admin;
#[path = "../agents/mod.rs"]
mod agents;
mod fake;
mod support;

mod access;
mod cluster;
mod crowd;
mod fencing;
mod leaks;
mod operator;
mod sessions;
mod ttl;
mod watch;
