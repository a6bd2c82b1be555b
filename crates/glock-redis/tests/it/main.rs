//! What only Redis can get wrong; the conformance suite has the rest.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;
mod support;

mod acl;
mod answers;
mod connections;
mod fencing;
mod given;
mod keys;
mod scripts;
mod secrets;
mod telemetry;
