//! What a lock must do, on a real etcd.

mod common;

use std::{net::SocketAddr, time::Duration};

use common::{Bare, Owned, url};
use glock_core::LockConfig;
use glock_etcd::{EtcdLock, LockId, connect_options};
use glock_testing::{CANARY, Fixture, Networked};

struct Etcd {
    namespace: String,
    bare: Bare,
}

impl Etcd {
    fn lock(endpoints: Vec<String>, config: LockConfig) -> EtcdLock {
        EtcdLock::connect(endpoints, connect_options()).with_config(config).unwrap()
    }

    async fn key_of(&self, id: &LockId) -> Option<Owned> {
        self.bare.first(&self.namespace, id).await
    }
}

impl Fixture for Etcd {
    type Lock = EtcdLock;

    async fn open(namespace: String) -> Self {
        Self { namespace, bare: Bare::connect().await }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> EtcdLock {
        Self::lock(url(), config)
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        self.key_of(id).await.map(|owned| format!("{:x}-{}", owned.lease, owned.secret))
    }

    async fn live(&self) -> usize {
        self.bare.keys(&self.namespace).await.len()
    }

    async fn evict(&self, id: &LockId) {
        if let Some(owned) = self.key_of(id).await {
            self.bare.delete(&owned.key).await;
        }
    }

    async fn forget(&self, id: &LockId) {
        // Of a lock that is free, etcd keeps nothing.
        self.evict(id).await;
    }
}

impl Networked for Etcd {
    const CONNECTIONS_MAX: usize = 1;
    /// One keep-alive every 2 s for all waiters together, in up to two bursts of bytes.
    const IDLE_REQUESTS_MAX: u64 = 60;

    fn upstream(&self) -> SocketAddr {
        let first = url().swap_remove(0);
        let host = first.trim_start_matches("http://").trim_end_matches('/').to_owned();
        host.parse().expect("an address such as 127.0.0.1:2379 in the URL")
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> EtcdLock {
        Self::lock(vec![server.to_string()], config)
    }

    async fn stranger_at(&self, server: SocketAddr) -> EtcdLock {
        let options = connect_options().with_user("stranger", CANARY);
        let lock = EtcdLock::connect([server.to_string()], options);
        lock.with_config(self.config().with_call_timeout(Duration::from_secs(2))).unwrap()
    }
}

glock_testing::conformance!(Etcd, "needs a server: run `cargo xtask integration etcd`");
