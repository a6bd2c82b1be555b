//! Tests of distributed locks, and of code that uses them.

#![doc = include_str!("../README.md")]

mod memory;

mod admin_suite;
pub mod cases;
mod fixture;
mod suite;

pub mod history;
pub mod process;
pub mod proxy;

/// The program in `docs/FROM_GO.md` is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/FROM_GO.md")]
mod from_go {}

pub use crate::{
    fixture::{CANARY, Fixture, Networked, fresh_namespace, ttl, url_from_env},
    history::History,
    memory::MemoryLock,
    proxy::Proxy,
    suite::run,
};
