//! The queue that Consul keeps beside each lock: who waits, in which order, and whose turn it is.

pub(crate) mod claim;
pub(crate) mod commands;
pub(crate) mod grant;
pub(crate) mod join;
pub(crate) mod keys;
pub(crate) mod moves;
pub(crate) mod place;
pub(crate) mod store;
pub(crate) mod turns;
pub(crate) mod waiters;
pub(crate) mod within;
