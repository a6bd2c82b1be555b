//! Tests that start servers of their own, from the program that `GLOCK_MONGODB_SERVER` names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "figures of a long run")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod election;
mod failover;
mod oplog;
mod queue;
mod quorum;
mod round_trips;
mod tls;

use crate::support::server_url;
