//! Tests that start servers of their own, from the program that `GLOCK_REDIS_SERVER` names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod leaks;
mod restart;
mod round_trips;
mod shortages;

#[cfg(feature = "sentinel")]
mod failover;
#[cfg(feature = "tls")]
mod tls;
