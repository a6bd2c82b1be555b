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
pub use glock_core::{
    Action, Capabilities, Fault, FencingToken, Guard, Hold, Holder, Lease, Lock, LockConfig,
    LockError, LockExt, LockId, LossReason, Retry,
};

pub use crate::{lock::EtcdLock, source::connect_options};
