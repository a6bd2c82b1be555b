//! What this workspace's tests, benches and examples need around a lock: servers, processes, measurements.

#![doc = include_str!("../README.md")]

pub mod bench;
mod contention;
mod failures;
mod outage;
mod ports;
pub mod process;
mod renewals;
pub mod server;
mod signal;
#[cfg(feature = "telemetry")]
pub mod telemetry;

pub use crate::{
    contention::{Contention, Failure},
    failures::{assert_fault, chain},
    outage::Outage,
    renewals::{guards_outlive_a_batch_without_reply, many_guards_are_renewed_together},
};
