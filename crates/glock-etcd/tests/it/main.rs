//! What only etcd can get wrong.

#[path = "../common/mod.rs"]
mod common;

mod failover;
