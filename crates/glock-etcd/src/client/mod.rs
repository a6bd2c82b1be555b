//! How etcd is reached.

pub(crate) mod hedge;
pub(crate) mod rpc;
pub(crate) mod source;
pub(crate) mod suffix_pool;
pub(crate) mod watch_stream;
