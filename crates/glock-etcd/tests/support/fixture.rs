//! What the suite needs of etcd, on one server or several.

use std::{marker::PhantomData, net::SocketAddr, time::Duration};

use glock_core::LockConfig;
use glock_etcd::{EtcdLock, LockId, connect_options};
use glock_testing::{CANARY, Fixture, Networked, proxy::Framing};

use crate::support::admin::{Admin, Owned};

/// Where the servers of a suite are.
pub(crate) trait Servers: Send + Sync + 'static {
    const MEMBERS: usize;

    fn endpoints() -> impl Future<Output = Vec<String>> + Send;
}

/// The store, seen from one case.
pub(crate) struct Etcd<S> {
    namespace: String,
    admin: Admin,
    endpoints: Vec<String>,
    servers: PhantomData<S>,
}

impl<S: Servers> Etcd<S> {
    fn lock(endpoints: Vec<String>, config: LockConfig) -> EtcdLock {
        EtcdLock::from_endpoints(endpoints, connect_options()).with_config(config).unwrap()
    }

    async fn key_of(&self, id: &LockId) -> Option<Owned> {
        self.admin.first(&self.namespace, id).await
    }
}

impl<S: Servers> Fixture for Etcd<S> {
    type Lock = EtcdLock;
    /// The lease that waiters share is given up after a sixth keep-alive without one, 12 s.
    const KEPT_IDLE: Duration = Duration::from_secs(15);
    /// The driver has two tasks for its connection to each member, which it makes for the first request
    /// to that member, and again after it was lost. With one member there is nothing to spare.
    const REOPENED: usize = 2 * (S::MEMBERS - 1);

    async fn open(namespace: String) -> Self {
        let endpoints = S::endpoints().await;
        let admin = Admin::connect(&endpoints).await;
        Self { namespace, admin, endpoints, servers: PhantomData }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> EtcdLock {
        Self::lock(self.endpoints.clone(), config)
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        let owned = self.key_of(id).await?;
        Some(format!("{:x}-{}-{}", owned.lease, owned.suffix, owned.secret))
    }

    async fn live(&self) -> usize {
        self.admin.keys(&self.namespace).await.len()
    }

    /// All but the first, which has the lock.
    async fn waiters(&self, id: &LockId) -> usize {
        self.admin.queue(&self.namespace, id).await.len().saturating_sub(1)
    }

    async fn evict(&self, id: &LockId) {
        if let Some(owned) = self.key_of(id).await {
            self.admin.delete(&owned.key).await;
        }
    }

    async fn forget(&self, id: &LockId) {
        // Of a lock that is free, etcd keeps nothing.
        self.evict(id).await;
    }
}

impl<S: Servers> Networked for Etcd<S> {
    /// HTTP/2: each request is a stream.
    const FRAMING: Framing = Framing::Turns;
    const CONNECTIONS_MAX: usize = 1;
    /// A lease that was spare for a while is kept alive beside its use; a renewal looks at the key
    /// beside keeping its lease alive.
    const REQUESTS_MAX: [u64; 4] = [2, 2, 2, 1];
    /// A keep-alive every 2 s, for all waiters together; and at first, an end to leases that the
    /// waiters' tries needed.
    const IDLE_REQUESTS_MAX: u64 = 60;

    fn upstream(&self) -> SocketAddr {
        let host = self.endpoints[0].trim_start_matches("http://").trim_end_matches('/');
        host.parse().expect("an address such as 127.0.0.1:2379 in the URL")
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> EtcdLock {
        Self::lock(vec![server.to_string()], config)
    }

    async fn stranger_at(&self, server: SocketAddr) -> EtcdLock {
        let options = connect_options().with_user("stranger", CANARY);
        let lock = EtcdLock::from_endpoints([server.to_string()], options);
        lock.with_config(self.config().with_call_timeout(Duration::from_secs(2))).unwrap()
    }
}
