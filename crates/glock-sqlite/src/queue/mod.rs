//! The queue that the lock's row keeps.

pub(crate) mod commands;
pub(crate) mod sql;
pub(crate) mod store;
