//! The client of one cluster, and what the clones of a lock share.

mod address;
mod builder;
mod clock;
mod connector;
mod hazelcast_client;
mod link;
mod links;
mod send;
mod session;
mod shared;
mod threads;

pub use self::{builder::HazelcastClientBuilder, hazelcast_client::HazelcastClient};
pub(crate) use self::{
    link::Link,
    session::ClientSession,
    shared::{LeaseRef, MapClient},
};
