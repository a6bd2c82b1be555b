//! What only MongoDB can get wrong; the conformance suite has the rest.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "figures of a long run")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod documents;
mod fencing;
mod leaks;
mod processes;
mod queue;
mod renewals;
mod runtimes;
mod schema;
mod secrets;
mod settings;
mod standalone;
mod telemetry;
mod waiting;

use crate::support::server_url;
