//! The conformance suite against the agent that `GLOCK_CONSUL_URL` names.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod admin;

use std::net::SocketAddr;

use glock_consul::{ConsulLock, LockConfig, LockId};
use glock_testing::{CANARY, Fixture, Networked, url_from_env};

use crate::admin::{Admin, key};

struct Consul {
    admin: Admin,
    namespace: String,
}

impl Fixture for Consul {
    type Lock = ConsulLock;

    async fn open(namespace: String) -> Self {
        let admin = Admin::open(&url_from_env("GLOCK_CONSUL_URL", "consul")).await;
        Self { admin, namespace }
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

    /// As `consul kv delete` does: the session lives on.
    async fn evict(&self, id: &LockId) {
        self.admin.delete(&key(&self.namespace, id)).await;
    }

    async fn forget(&self, id: &LockId) {
        self.admin.delete(&key(&self.namespace, id)).await;
    }
}

impl Networked for Consul {
    /// HTTP/1.1 serves one command at a time, so 64 for commands at most; and the blocking query's.
    const CONNECTIONS_MAX: usize = 65;
    /// One a second: the blocking query begins anew every two seconds where TTLs are as short as
    /// here, however many wait; and the sessions of their tries are destroyed.
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

glock_testing::conformance!(Consul, "needs a server: run `cargo xtask integration consul`");
