//! What takes servers of one's own, started from the program that `GLOCK_REDIS_SERVER` names.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod program;
#[path = "../it/support.rs"]
mod support;

mod one;

#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "sentinel")]
mod sentinel;
#[cfg(feature = "tls")]
mod tls;
