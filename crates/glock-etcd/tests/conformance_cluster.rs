//! What a lock must do, on a cluster of three.

mod common;

use std::{env::temp_dir, fs, os::unix::process::parent_id, path::PathBuf, process};

use common::{
    cluster::Cluster,
    fixture::{Etcd, Servers},
};
use glock_testing::process::role;
use tokio::sync::OnceCell;

/// One cluster for all cases.
struct Three;

static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();

impl Servers for Three {
    async fn endpoints() -> Vec<String> {
        if role().is_some() {
            // A process that a case has started uses the cluster of its parent.
            let endpoints = fs::read_to_string(note(parent_id())).unwrap();
            return endpoints.lines().map(ToOwned::to_owned).collect();
        }
        let start = || async {
            let cluster = Cluster::start().await;
            fs::write(note(process::id()), cluster.endpoints().join("\n")).unwrap();
            cluster
        };
        CLUSTER.get_or_init(start).await.endpoints()
    }
}

fn note(pid: u32) -> PathBuf {
    temp_dir().join(format!("glock-etcd-cluster-{pid}"))
}

glock_testing::conformance!(
    Etcd<Three>,
    "needs three servers: run `cargo xtask integration etcd --native`"
);
