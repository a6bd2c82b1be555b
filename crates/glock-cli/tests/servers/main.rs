//! The command on the servers of stores, as `cargo xtask integration cli` starts them.
#![allow(clippy::unwrap_used, reason = "a test that fails is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod server;

mod outages;
mod terminal;
