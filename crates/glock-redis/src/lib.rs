//! Distributed locks on Redis and Valkey.

#![doc = include_str!("../README.md")]

mod lock;

mod calls;
mod error;
mod schema;
mod session;
mod source;
mod wait;

pub use glock_core::{
    Capabilities, Clock, Event, Fault, Fencing, FencingToken, Guard, Hold, Holder, Lease, Lock,
    LockConfig, LockError, LockExt, LockId, LossReason, Order, OwnerToken, Retry, Waiting, backend,
};
pub use redis;

pub use crate::lock::RedisLock;
