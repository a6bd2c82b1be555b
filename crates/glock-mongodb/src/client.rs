//! The client: how a command is sent to the primary, and what clones share.

mod command;
mod releases;

mod state;

pub(crate) use self::{
    command::{Command, Reply, Sender},
    releases::{Next, ReleaseStream, Releases},
    state::{Client, Settings},
};
