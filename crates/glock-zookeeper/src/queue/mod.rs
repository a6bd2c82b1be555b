//! The queue of waiters that the servers keep.

pub(crate) mod leave;
pub(crate) mod local_waiters;
pub(crate) mod waiter_node;
