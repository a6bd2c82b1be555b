//! The command as a person and a script use it, on the embedded store.
#![allow(clippy::unwrap_used, reason = "a test that fails is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod bad_input;
mod help;
mod leases;
mod listing;
mod run;
mod signals;
mod storm;
mod terminal;
