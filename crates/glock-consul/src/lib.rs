//! Distributed locks on Consul.

#![doc = include_str!("../README.md")]

mod lock;

mod error;
mod wait;

mod hold;
mod keeper;
mod order;
mod pages;
mod renew;
mod session;
mod settle;

mod address;
mod client;
mod connections;
mod idle;

mod api;
mod asking;
mod entry;
mod key;
mod owner;

pub use hyper;

// The one glob: every store's crate re-exports the whole contract.
pub use glock_core::contract::*;

pub use crate::{
    client::{ConsulClient, ConsulClientBuilder},
    error::ConsulError,
    lock::ConsulLock,
};
