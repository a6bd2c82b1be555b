//! Distributed locks on Amazon DynamoDB.

#![doc = include_str!("../README.md")]

mod admin;
mod lock;

mod acquire;
mod queue;
mod renew;
mod wait;

mod client;
mod commands;
mod error;
mod schema;

pub use aws_sdk_dynamodb;
// The one glob: every store's crate re-exports the whole contract.
pub use glock_core::contract::*;

#[cfg(feature = "tls")]
pub use crate::client::https_client;
pub use crate::lock::DynamoDbLock;
