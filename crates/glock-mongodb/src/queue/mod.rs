//! The queue that the lock's document keeps.

pub(crate) mod commands;
pub(crate) mod store;
