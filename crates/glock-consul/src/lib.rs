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

pub use glock_core::{
    Action, Capabilities, Fault, FencingToken, Guard, Hold, Holder, Lease, Lock, LockConfig,
    LockError, LockExt, LockId, LossReason, Retry,
};

pub use crate::{
    client::{ConsulClient, ConsulClientBuilder},
    error::ConsulError,
    lock::ConsulLock,
};
