//! What only this store can get wrong, against the server that `GLOCK_DYNAMODB_URL` names.
#![allow(clippy::unwrap_used, reason = "what fails here is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod telemetry;
