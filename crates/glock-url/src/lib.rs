//! A distributed lock from a URL.

#![doc = include_str!("../README.md")]

mod any_lock;
mod error;
mod open;
mod parameters;
mod scheme;
mod secret;
mod stores;
mod url;

pub use crate::{any_lock::AnyLock, error::UrlError, open::open, scheme::Scheme, url::LockUrl};
