//! The client: how a command is sent to the primary, and what clones share.

mod audience;
mod change_stream;
mod command;
mod driver;

mod state;

pub(crate) use self::{
    audience::Audience,
    change_stream::{ChangeStreamSource, EventStream, Next},
    command::{Command, Reply, Sender},
    driver::Driver,
    state::{Client, Settings},
};
