//! What puts a distributed lock to the test.

#![doc = include_str!("../README.md")]

mod memory;

mod fixture;
mod suite;

pub mod bench;
pub mod cases;
mod contention;
pub mod history;
pub mod process;
pub mod proxy;
pub mod server;

pub use crate::{
    contention::{Contention, Failure},
    fixture::{CANARY, Fixture, Networked, fresh_namespace, ttl, url_from_env},
    history::History,
    memory::MemoryLock,
    proxy::Proxy,
    suite::run,
};
