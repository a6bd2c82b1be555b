//! The client: how a command is sent to the primary, and what clones share.

mod command;
mod state;

pub(crate) use self::{
    command::{Command, Reply, Sender},
    state::{Client, Settings},
};
