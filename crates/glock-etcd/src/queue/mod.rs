//! The queue that etcd keeps, as this client's waiters see it.

pub(crate) mod cleanup;
pub(crate) mod local_waiters;
pub(crate) mod session;
pub(crate) mod waiter;
