//! What only PostgreSQL can get wrong; the conformance suite has the rest.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod connections;
mod contention;
mod expiry;
mod fencing;
mod foreign_state;
mod late_grants;
mod leaks;
mod limits;
mod queue;
mod races;
mod renewals;
mod runtimes;
mod schema;
mod secrets;
mod silence;
mod telemetry;
#[cfg(feature = "tls")]
mod tls;
mod waiting;
