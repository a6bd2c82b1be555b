//! Distributed locks on etcd.

#![doc = include_str!("../README.md")]

mod lock;

mod neighbours;
mod place;
mod renew;
mod unwanted;
mod wait;

mod leases;
mod session;
mod settle;
mod watch;
mod watcher;

mod attempt;
mod error;
mod grant;
mod hedge;
mod schema;
mod seats;
mod source;
mod store;
mod txns;

pub use etcd_client;
// The one glob: every store's crate re-exports the whole contract.
pub use glock_core::contract::*;

pub use crate::{lock::EtcdLock, source::connect_options};
