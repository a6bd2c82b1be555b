//! The queue that etcd keeps, as one of its waiters sees it.

pub(crate) mod cleanup;
pub(crate) mod position;
pub(crate) mod predecessor;
pub(crate) mod session;
pub(crate) mod waiter;
