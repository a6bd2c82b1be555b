//! Distributed locks on Consul.

#![doc = include_str!("../README.md")]

mod admin;
mod lock;

mod acquire;
mod blocking_query;
mod release;
mod renew;
mod wait;
mod watch;

mod client;
mod commands;
mod error;
mod queue;
mod schema;
mod session;

pub use hyper;

// The one glob: every store's crate re-exports the whole contract.
pub use glock_core::contract::*;

pub use crate::{
    client::{ConsulClient, ConsulClientBuilder},
    error::ConsulError,
    lock::ConsulLock,
};
