//! Distributed locks on PostgreSQL.

#![doc = include_str!("../README.md")]

mod lock;

mod store;
mod wait;

mod listen;
mod listener;

mod error;
mod schema;
mod session;
mod spare;
mod statements;

pub use glock_core::{
    Action, BoxError, Capabilities, Clock, Event, Fault, Fencing, FencingToken, Guard, Hold,
    Holder, Lease, Lock, LockConfig, LockError, LockExt, LockId, LossReason, Order, OwnerToken,
    Retry, WaitEnd, Waiting,
};
pub use sqlx;

pub use crate::lock::PostgresLock;
