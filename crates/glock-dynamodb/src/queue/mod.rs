//! The queue that the lock's item keeps: who waits, in which order, and whose turn it is.

pub(crate) mod commands;
pub(crate) mod leaving;
pub(crate) mod moves;
pub(crate) mod pauses;
pub(crate) mod places;
pub(crate) mod shown;
pub(crate) mod store;
pub(crate) mod turns;
