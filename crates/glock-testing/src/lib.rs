//! Stub.

pub mod server;
