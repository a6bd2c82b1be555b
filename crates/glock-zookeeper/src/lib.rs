//! Locks on Apache ZooKeeper for glock.

#![doc = include_str!("../README.md")]

mod lock;

mod calls;
mod error;
mod renew;
mod take;
mod wait;

mod claim;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]
mod fake;
mod keeper;
mod leave;
mod ledger;
mod line;
mod manner;
mod nodes;
mod places;
mod pulse;
mod schema;
mod search;
mod session;

// The one glob: every store's crate re-exports the whole contract.
pub use glock_core::contract::*;
pub use zookeeper_client;

pub use crate::lock::ZooKeeperLock;
