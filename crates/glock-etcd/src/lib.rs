//! Distributed locks on etcd.

#![doc = include_str!("../README.md")]

mod admin;
mod lock;

mod acquire;
mod renew;
mod wait;
mod watch;

mod client;
mod queue;
mod session;

mod commands;
mod error;
mod schema;

pub use etcd_client;
// The one glob: every store's crate re-exports the whole contract.
pub use glock_core::contract::*;

pub use crate::{client::connection::connect_options, lock::EtcdLock};
