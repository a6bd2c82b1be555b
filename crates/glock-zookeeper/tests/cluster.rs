//! The conformance suite against an ensemble of three: `cargo xtask integration zookeeper --native`.
#![allow(clippy::unwrap_used, reason = "a fixture that cannot do its part is a failed test")]

mod fixture;
#[allow(dead_code, reason = "other tests kill members and pause them")]
#[path = "fixture/cluster.rs"]
mod members;

use std::{fs, net::SocketAddr, path::PathBuf, sync::OnceLock};

use fixture::ZooKeeper;
use glock_testing::{Fixture, Networked, process::role};
use glock_zookeeper::{LockConfig, LockId, ZooKeeperLock};
use members::Cluster;

/// One ensemble for all cases of this process, and for the processes that they start.
static CLUSTER: OnceLock<Cluster> = OnceLock::new();

struct Three(ZooKeeper);

/// Where a process of this test finds the ensemble of its parent.
fn note(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("glock-zookeeper-cluster-{process}"))
}

fn addresses() -> String {
    if role().is_some() {
        return fs::read_to_string(note(std::os::unix::process::parent_id())).unwrap();
    }
    CLUSTER
        .get_or_init(|| {
            let cluster = Cluster::start();
            fs::write(note(std::process::id()), cluster.addresses()).unwrap();
            cluster
        })
        .addresses()
}

impl Fixture for Three {
    type Lock = ZooKeeperLock;

    async fn open(namespace: String) -> Self {
        let addresses = tokio::task::spawn_blocking(addresses).await.unwrap();
        Self(ZooKeeper::at(addresses, namespace).await)
    }

    fn config(&self) -> LockConfig {
        self.0.config()
    }

    async fn client_with(&self, config: LockConfig) -> ZooKeeperLock {
        self.0.client_with(config).await
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        self.0.owner(id).await
    }

    async fn live(&self) -> usize {
        self.0.live().await
    }

    async fn residue(&self) -> usize {
        self.0.residue().await
    }

    async fn evict(&self, id: &LockId) {
        self.0.evict(id).await;
    }

    async fn forget(&self, id: &LockId) {
        self.0.forget(id).await;
    }
}

impl Networked for Three {
    const CONNECTIONS_MAX: usize = ZooKeeper::CONNECTIONS_MAX;
    const IDLE_REQUESTS_MAX: u64 = ZooKeeper::IDLE_REQUESTS_MAX;

    fn upstream(&self) -> SocketAddr {
        self.0.upstream()
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> ZooKeeperLock {
        self.0.client_at(server, config).await
    }

    async fn stranger_at(&self, server: SocketAddr) -> ZooKeeperLock {
        self.0.stranger_at(server).await
    }
}

glock_testing::conformance!(Three, "needs an ensemble: run `cargo xtask integration zookeeper`");
