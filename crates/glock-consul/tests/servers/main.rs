//! What takes servers of our own, by the program that `GLOCK_CONSUL_SERVER` names.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test tells what it measured, and a fixture that fails is a failed test"
)]

#[path = "../admin/mod.rs"]
mod admin;
#[path = "../agents/mod.rs"]
mod agents;
#[path = "../it/support.rs"]
#[allow(dead_code, reason = "a part of it is for the other tests")]
mod support;

mod leader;
