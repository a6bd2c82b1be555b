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

// The one glob: every store's crate re-exports the whole contract.
pub use glock_core::contract::*;
pub use sqlx;

pub use crate::lock::PostgresLock;
