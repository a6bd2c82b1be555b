//! The client: how a command is sent to the primary, and what clones share.

mod command;
mod driver;
mod releases;

mod state;

pub(crate) use self::{
    command::{Command, Reply, Sender},
    driver::Driver,
    releases::{Next, ReleaseStream, Releases},
    state::{Client, Settings},
};
