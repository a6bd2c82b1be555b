//! Locks on Hazelcast for glock.

#![doc = include_str!("../README.md")]

mod fenced_lock;
mod lock;

mod acquire;
mod client;
mod commands;
mod renew;
mod wait;
mod watch;

mod admin;

mod error;
mod queue;
mod schema;
mod session;
mod wire;

/// What [`HazelcastClientBuilder::tls`] takes.
#[cfg(feature = "tls")]
pub use rustls;

// The one glob: each store re-exports the whole contract.
pub use glock_core::contract::*;

pub use crate::{
    client::{HazelcastClient, HazelcastClientBuilder},
    fenced_lock::HazelcastFencedLock,
    lock::HazelcastLock,
    wire::HazelcastError,
};
