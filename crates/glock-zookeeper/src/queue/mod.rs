//! The queue of waiters that the servers keep.

mod leave;
mod waiter_node;

pub(crate) use self::waiter_node::WaiterNode;
