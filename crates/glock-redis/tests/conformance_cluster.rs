//! What an operator does, on a cluster of three nodes, among which the locks are spread.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod support;

use std::{
    sync::{OnceLock, mpsc::channel},
    thread,
    time::Duration,
};

use glock_redis::{LockConfig, LockId, RedisLock, redis::Client};
use glock_testing::Fixture;
use tokio::runtime::Runtime;

use crate::support::{
    admin::Admin,
    cluster::{Cluster, OwnServer, node_of},
    fixture::Redis,
};

/// The nodes of a cluster for all cases, each for itself.
struct Three(Vec<Redis>);

/// The cluster ends with this process. Its runtime is its own: each case has another one.
fn nodes() -> &'static [Client] {
    static NODES: OnceLock<Vec<Client>> = OnceLock::new();
    NODES.get_or_init(|| {
        let (sender, started) = channel();
        thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let cluster = Cluster::start().await;
                sender.send(cluster.nodes.iter().map(OwnServer::client).collect()).unwrap();
                std::future::pending::<()>().await;
            });
        });
        started.recv().expect("the cluster does not start")
    })
}

impl Three {
    /// The node that serves a lock.
    async fn node_of(&self, id: &LockId) -> &Redis {
        &self.0[node_of(&self.0[0].admin, id.as_str()).await]
    }
}

impl Fixture for Three {
    type Lock = RedisLock;
    const PASSED_OVER_MAX: Duration = Redis::PASSED_OVER_MAX;
    const RESERVES: bool = Redis::RESERVES;

    async fn open(namespace: String) -> Self {
        let mut three = Vec::new();
        for node in nodes() {
            three.push(Redis { admin: Admin::at(node.clone(), namespace.clone()).await });
        }
        Self(three)
    }

    fn config(&self) -> LockConfig {
        self.0[0].config()
    }

    async fn client_with(&self, config: LockConfig) -> RedisLock {
        RedisLock::cluster(nodes().to_vec()).with_config(config).unwrap()
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        self.node_of(id).await.owner(id).await
    }

    async fn live(&self) -> usize {
        let mut live = 0;
        for node in &self.0 {
            live += node.live().await;
        }
        live
    }

    async fn residue(&self) -> usize {
        let mut left = 0;
        for node in &self.0 {
            left += node.residue().await;
        }
        left
    }

    async fn evict(&self, id: &LockId) {
        self.node_of(id).await.evict(id).await;
    }

    async fn forget(&self, id: &LockId) {
        self.node_of(id).await.forget(id).await;
    }
}

glock_testing::admin_contract!(
    Three,
    (#[ignore = "needs the server's program: run `cargo xtask integration redis --native`"])
);
