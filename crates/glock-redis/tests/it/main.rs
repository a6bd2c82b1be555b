//! What only Redis can get wrong; the conformance suite has the rest.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod caller_connection;
mod credentials;
mod expiry;
mod fencing;
mod leaks;
mod renewals;
mod replies;
mod runtimes;
mod scripts;
mod secrets;
mod telemetry;
mod waiting;
