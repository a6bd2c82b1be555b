//! Distributed locks on MongoDB.

#![doc = include_str!("../README.md")]

mod admin;
mod lock;

mod acquire;
mod queue;
mod renew;
mod wait;
mod watch;

mod client;
mod commands;
mod error;
mod schema;

// The one glob: every store's crate re-exports the whole contract.
pub use glock_core::contract::*;
pub use mongodb;

pub use crate::lock::MongoLock;
