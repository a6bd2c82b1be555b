//! Distributed locks on Redis and Valkey.

#![doc = include_str!("../README.md")]

mod admin;
mod lock;

mod acquire;
mod wait;
mod watch;

mod client;
mod commands;
mod error;
mod queue;
mod renew;
mod schema;

// The one glob: every store's crate re-exports the whole contract.
pub use glock_core::contract::*;
pub use redis;

pub use crate::{client::Credentials, lock::RedisLock};
