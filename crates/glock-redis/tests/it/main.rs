//! What only Redis can get wrong; the conformance suite has the rest.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fake;
mod program;
mod support;

mod acl;
mod answers;
mod connections;
mod fencing;
mod given;
mod keys;
mod private;
mod scripts;
mod secrets;

#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "sentinel")]
mod sentinel;
