//! What only etcd can get wrong.
#![allow(clippy::print_stdout, reason = "a test prints what it measured")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod expiry;
mod keys;
mod leases;
mod telemetry;
mod transfer;
mod waiting;
