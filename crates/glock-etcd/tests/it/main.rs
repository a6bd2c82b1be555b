//! What only etcd can get wrong.
#![allow(clippy::print_stdout, reason = "a test tells what it measured")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod access;
mod failover;
mod leaks;
mod members;
mod places;
mod quorum;
mod waiters;

use glock_etcd::{EtcdLock, LockConfig, LockId, connect_options};

fn lock(endpoints: &[String], namespace: &str) -> EtcdLock {
    let config = LockConfig::default().with_namespace(namespace);
    EtcdLock::connect(endpoints.to_vec(), connect_options()).with_config(config).unwrap()
}

fn id(name: &str) -> LockId {
    LockId::new(name).unwrap()
}
