//! Hazelcast's Open Binary Client Protocol 2: the messages that the two locks need, and connections.
//!
//! Nothing in it knows of locks. Everything that a member sends is bounded and checked: whatever the
//! bytes, decoding neither panics nor allocates more than [`MESSAGE_MAX`] and what the socket delivered.

mod assembler;
pub(crate) mod auth;
mod cluster;
mod connection;
pub(crate) mod cp;
#[cfg(test)]
pub(crate) mod duplex;
mod error;
mod frame;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod golden_admin;
pub(crate) mod keys;
pub(crate) mod management;
pub(crate) mod map;
mod message;
mod outgoing;
mod partition;
mod request;
mod unanswered;
mod uuid;
mod value;

pub use self::error::HazelcastError;
#[allow(unused_imports, reason = "the tests of the crate use more of it than the crate does")]
pub(crate) use self::{
    assembler::MESSAGE_MAX,
    cluster::{ClusterInfo, Version},
    connection::{Connection, Liveness, PendingReply},
    error::code,
    message::Message,
    partition::partition_of,
    request::Request,
    uuid::Uuid,
    value::{long, string, text},
};
