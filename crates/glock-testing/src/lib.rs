//! What puts a distributed lock to the test.

#![doc = include_str!("../README.md")]

mod memory;

pub mod cases;
mod fixture;
mod suite;

pub mod history;
pub mod process;
pub mod proxy;

pub use crate::{
    fixture::{CANARY, Fixture, Networked, fresh_namespace, ttl, url_from_env},
    history::History,
    memory::MemoryLock,
    proxy::Proxy,
    suite::run,
};
