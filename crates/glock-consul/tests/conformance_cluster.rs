//! The conformance suite against three servers of its own, through one that does not lead.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod support;

use std::os::unix::process::parent_id;

use glock_testing::process::role;
use tokio::sync::OnceCell;

use crate::support::{
    cluster::{Cluster, dir},
    fixture::{Agent, Consul},
};

/// All cases share it. It ends with this process.
static CLUSTER: OnceCell<(Cluster, usize)> = OnceCell::const_new();

/// A follower of a cluster.
struct Follower;

async fn start() -> (Cluster, usize) {
    let cluster = Cluster::start().await;
    let follower = (cluster.leader().await + 1) % 3;
    // For the processes that cases start.
    std::fs::write(dir(std::process::id(), 0).join("n0/follower"), cluster.url(follower)).unwrap();
    (cluster, follower)
}

impl Agent for Follower {
    async fn url() -> String {
        if role().is_some() {
            return std::fs::read_to_string(dir(parent_id(), 0).join("n0/follower")).unwrap();
        }
        let (cluster, follower) = CLUSTER.get_or_init(start).await;
        cluster.url(*follower)
    }
}

glock_testing::conformance!(
    Consul<Follower>,
    "needs a server: run `cargo xtask integration consul --native`"
);
glock_testing::admin_conformance!(
    Consul<Follower>,
    "needs a server: run `cargo xtask integration consul --native`"
);
