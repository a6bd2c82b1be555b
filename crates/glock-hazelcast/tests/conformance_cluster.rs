//! Three members, with a CP group of all three: the whole suite for fenced locks and for the map's:
//! `cargo xtask integration hazelcast --native`.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its part is a failed test")]

#[allow(dead_code, reason = "a part of it is for the other tests")]
mod support;

use std::{fs, os::unix::process::parent_id, sync::OnceLock};

use glock_hazelcast::LockAdmin as _;
use glock_testing::{Fixture as _, process::role};
use support::{
    cluster::{Cluster, Kind, dir},
    fixture::{HazelcastCp, HazelcastMap},
};

/// Where the macro puts the test that holds a lock of the map in another process.
const HOLDER_TEST: &str = "map::holder_process";

/// One cluster for all cases of this process, and for the processes that they start.
static CLUSTER: OnceLock<Cluster> = OnceLock::new();

/// Where the suite's members are.
fn servers() -> String {
    if role().is_some() {
        return fs::read_to_string(dir(parent_id(), 0).join("n0/addresses")).unwrap();
    }
    let start = || {
        let cluster = Cluster::start(Kind::Cp);
        let note = dir(std::process::id(), 0).join("n0/addresses");
        fs::write(note, cluster.addresses()).unwrap();
        cluster
    };
    CLUSTER.get_or_init(start).addresses()
}

/// Nothing is to be warned of where three members keep both kinds of lock.
#[tokio::test]
#[ignore = "needs a cluster: run `cargo xtask integration hazelcast --native`"]
async fn a_preflight_finds_nothing_on_three_members() {
    let store = HazelcastMap::open(glock_testing::fresh_namespace()).await;
    assert_eq!(store.client().await.preflight().await.unwrap(), []);
    let store = HazelcastCp::open(glock_testing::fresh_namespace()).await;
    assert_eq!(store.client().await.preflight().await.unwrap(), []);
}

/// Locks of the map.
mod map {
    use super::*;

    glock_testing::conformance!(
        HazelcastMap,
        "needs a cluster: run `cargo xtask integration hazelcast --native`"
    );
    glock_testing::admin_conformance!(
        HazelcastMap,
        "needs a cluster: run `cargo xtask integration hazelcast --native`"
    );
}

/// Fenced locks.
mod fenced {
    use super::*;

    glock_testing::conformance!(
        HazelcastCp,
        "needs a cluster: run `cargo xtask integration hazelcast --native`"
    );
    glock_testing::admin_conformance!(
        HazelcastCp,
        "needs a cluster: run `cargo xtask integration hazelcast --native`"
    );
}
