//! The conformance suite against an ensemble of three: `cargo xtask integration zookeeper --native`.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its part is a failed test")]

#[allow(dead_code, reason = "a part of it is for the other tests")]
mod support;

use std::{fs, os::unix::process::parent_id, sync::OnceLock};

use glock_testing::process::role;
use support::{
    cluster::{Cluster, dir},
    fixture::ZooKeeper,
};

/// One ensemble for all cases of this process, and for the processes that they start.
static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// Where the suite's servers are.
fn servers() -> String {
    if role().is_some() {
        return fs::read_to_string(dir(parent_id(), 0).join("n0/addresses")).unwrap();
    }
    let start = || {
        let cluster = Cluster::start();
        let note = dir(std::process::id(), 0).join("n0/addresses");
        fs::write(note, cluster.addresses()).unwrap();
        cluster
    };
    CLUSTER.get_or_init(start).addresses()
}

glock_testing::conformance!(
    ZooKeeper,
    "needs an ensemble: run `cargo xtask integration zookeeper --native`"
);
glock_testing::admin_conformance!(
    ZooKeeper,
    "needs an ensemble: run `cargo xtask integration zookeeper --native`"
);
