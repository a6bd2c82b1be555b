//! The client of one agent, and what the clones of a lock share.

mod address;
mod agent;
mod builder;
mod connections;
mod connector;
mod shared;

pub use self::{agent::ConsulClient, builder::ConsulClientBuilder};
pub(crate) use self::{
    connections::{Connections, Reply},
    shared::Client,
};
