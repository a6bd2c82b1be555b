//! Locks on Apache ZooKeeper for glock.

#![doc = include_str!("../README.md")]

mod admin;
mod lock;

mod acquire;
mod client;
mod commands;
mod renew;
mod wait;
mod watch;

mod error;
mod queue;
mod schema;
mod session;

// The one glob: each store re-exports the whole contract.
pub use glock_core::contract::*;
pub use zookeeper_client;

pub use crate::lock::ZooKeeperLock;
