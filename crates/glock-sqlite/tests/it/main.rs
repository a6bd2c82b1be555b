//! What only SQLite can get wrong.
#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod contention;
mod crash;
mod disk;
mod fencing;
mod leaks;
mod machines;
mod renewals;
mod replaced;
mod runtimes;
mod telemetry;
mod waiting;
mod writers;
