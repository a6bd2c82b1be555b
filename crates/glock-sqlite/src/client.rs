//! What a lock and its clones share, and how it reaches the file.

mod state;

mod clock;
mod connections;
mod database;
mod file;
mod file_changes;
mod file_system;
mod file_watch;

pub(crate) use self::{
    clock::{Clock, Micros, micros},
    connections::{Access, Connections, Statement},
    file_changes::FileChanges,
    state::Client,
};
