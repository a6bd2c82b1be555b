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

pub use glock_core::{
    Capabilities, Clock, Event, Fault, Fencing, FencingToken, Guard, Hold, Holder, Lease, Lock,
    LockConfig, LockError, LockExt, LockId, LossReason, Order, OwnerToken, Retry, Waiting, backend,
};
pub use zookeeper_client;

pub use crate::lock::ZooKeeperLock;
