//! The conformance suite against three servers of our own, through one that does not lead.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod admin;
mod agents;

use std::{net::SocketAddr, os::unix::process::parent_id, path::PathBuf};

use glock_consul::{ConsulLock, LockConfig, LockId};
use glock_testing::{CANARY, Fixture, Networked, process::role};
use tokio::sync::OnceCell;

use crate::{
    admin::{Admin, key},
    agents::Agents,
};

/// All cases share it. It ends with this process.
static CLUSTER: OnceCell<(Agents, usize)> = OnceCell::const_new();

struct Cluster {
    admin: Admin,
    namespace: String,
}

/// Where the process of that id tells its children of its cluster.
fn note(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("glock-consul-cluster-{process}"))
}

async fn start() -> (Agents, usize) {
    let cluster = Agents::start().await;
    let follower = (cluster.leader().await + 1) % 3;
    std::fs::write(note(std::process::id()), cluster.url(follower)).unwrap();
    (cluster, follower)
}

impl Fixture for Cluster {
    type Lock = ConsulLock;

    async fn open(namespace: String) -> Self {
        let url = if role().is_some() {
            std::fs::read_to_string(note(parent_id())).unwrap()
        } else {
            let (cluster, follower) = CLUSTER.get_or_init(start).await;
            cluster.url(*follower)
        };
        Self { admin: Admin::open(&url).await, namespace }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> ConsulLock {
        self.admin.lock(self.admin.client(self.admin.addr), config)
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        self.admin.owner(&key(&self.namespace, id)).await
    }

    async fn live(&self) -> usize {
        self.admin.held(&format!("{}/", self.namespace)).await.len()
    }

    async fn residue(&self) -> usize {
        self.admin.residue(&self.namespace).await
    }

    async fn evict(&self, id: &LockId) {
        self.admin.delete(&key(&self.namespace, id)).await;
    }

    async fn forget(&self, id: &LockId) {
        self.admin.delete(&key(&self.namespace, id)).await;
    }
}

impl Networked for Cluster {
    const CONNECTIONS_MAX: usize = 65;
    const IDLE_REQUESTS_MAX: u64 = 60;

    fn upstream(&self) -> SocketAddr {
        self.admin.addr
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> ConsulLock {
        self.admin.lock(self.admin.client(server), config)
    }

    async fn stranger_at(&self, server: SocketAddr) -> ConsulLock {
        self.admin.lock(self.admin.client(server).token(CANARY), self.config())
    }
}

glock_testing::conformance!(Cluster, "needs a server: run `cargo xtask integration consul`");
