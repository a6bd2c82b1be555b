//! What a lock and its clones share, and how it reaches the server.

mod state;

mod connection_cache;
mod connections;
mod notification_connection;
mod request;

pub(crate) use self::{
    connections::Connections,
    notification_connection::NotificationConnection,
    request::{SendMode, Statement},
    state::Client,
};
