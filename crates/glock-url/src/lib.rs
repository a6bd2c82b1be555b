//! A distributed lock from a URL.

#![doc = include_str!("../README.md")]
#![cfg_attr(
    not(feature = "all"),
    allow(
        dead_code,
        unused_imports,
        reason = "what is used depends on which stores are compiled in"
    )
)]

mod any_lock;
mod error;
mod open;
mod parameters;
mod scheme;
mod secret;
mod stores;
mod url;

pub use crate::{any_lock::AnyLock, error::UrlError, open::open, scheme::Scheme, url::LockUrl};
