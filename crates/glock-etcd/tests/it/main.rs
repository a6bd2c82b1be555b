//! What only etcd can get wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod places;
mod telemetry;
