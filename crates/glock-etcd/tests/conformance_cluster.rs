//! What a lock must do, on a cluster of three.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod support;

use std::{fs, os::unix::process::parent_id};

use glock_testing::process::role;
use support::{
    cluster::{self, Cluster},
    fixture::{Etcd, Servers},
};
use tokio::sync::OnceCell;

/// One cluster for all cases.
struct Three;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

impl Servers for Three {
    const MEMBERS: usize = 3;

    async fn endpoints() -> Vec<String> {
        if role().is_some() {
            // A process that a case has started uses the cluster of its parent.
            let endpoints =
                fs::read_to_string(cluster::dir(parent_id(), 0).join("n0/endpoints")).unwrap();
            return endpoints.lines().map(ToOwned::to_owned).collect();
        }
        CLUSTER.get_or_init(Cluster::start).await.endpoints()
    }
}

glock_testing::conformance!(
    Etcd<Three>,
    "needs three servers: run `cargo xtask integration etcd --native`"
);
glock_testing::admin_conformance!(
    Etcd<Three>,
    "needs three servers: run `cargo xtask integration etcd --native`"
);
