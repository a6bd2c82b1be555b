//! What a lock and its clones share, and the way from there to the server.

pub(crate) mod shared;

pub(crate) mod connection_cache;
pub(crate) mod connections;
pub(crate) mod notification_connection;
pub(crate) mod request;
