//! The queue of waiters that the servers keep.

mod leave;
mod list;
mod waiter_node;

pub(crate) use self::{list::waiters, waiter_node::WaiterNode};
