//! What a lock and its clones share, and how it reaches the server.

mod state;

mod abandoned;
mod connections;
mod connector;
mod idle_connections;
mod in_use;
mod limits;
mod listener_status;
mod notification_connection;
mod request;

pub(crate) use self::{
    connections::{Connections, Purpose},
    limits::Limits,
    listener_status::{ListenerSource, ListenerStatus},
    notification_connection::NotificationConnection,
    request::{LateStatement, SendMode, Statement},
    state::Client,
};
