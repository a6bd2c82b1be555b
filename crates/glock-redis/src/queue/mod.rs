//! The queue that the server keeps beside each lock.

pub(crate) mod commands;
pub(crate) mod store;
