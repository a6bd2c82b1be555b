//! What only DynamoDB can get wrong; the conformance suite has the rest.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod contention;
mod cost;
mod expiry;
mod items;
mod leaks;
mod lost_replies;
mod queue;
mod runtimes;
mod secrets;
mod telemetry;
mod throttling;
#[cfg(feature = "tls")]
mod tls;
mod waiting;
