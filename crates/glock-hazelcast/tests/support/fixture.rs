//! A cluster as the suite sees it: a namespace of its own.

use std::{net::SocketAddr, time::Duration};

use glock_hazelcast::{HazelcastClient, HazelcastFencedLock, HazelcastLock, LockConfig, LockId};
use glock_testing::{CANARY, Fixture, Networked, proxy::Framing};

use crate::support::admin::{Admin, Frame};

/// The cluster's name.
pub(crate) const CLUSTER: &str = "dev";

/// One case's namespace, for locks of the map.
pub(crate) struct HazelcastMap {
    pub(crate) addresses: Vec<String>,
    pub(crate) namespace: String,
    pub(crate) admin: Admin,
}

/// The addresses in a text such as `host:5701,other:5701`.
pub(crate) fn addresses(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

impl HazelcastMap {
    fn lock_at(addresses: &[String], config: LockConfig) -> HazelcastLock {
        let client = HazelcastClient::new(addresses).unwrap();
        HazelcastLock::new(client).with_config(config).unwrap()
    }

    /// The map whose keys are locked: written out here, so that a change of the layout fails a test.
    pub(crate) fn locks(&self) -> String {
        format!("distributed_lock/{}", self.namespace)
    }

    pub(crate) fn records(&self) -> String {
        format!("distributed_lock/{}#fence", self.namespace)
    }
}

impl Fixture for HazelcastMap {
    type Lock = HazelcastLock;

    const HOLDER_TEST: &str = crate::HOLDER_TEST;

    async fn open(namespace: String) -> Self {
        let servers = tokio::task::spawn_blocking(crate::servers).await.unwrap();
        let addresses = addresses(&servers);
        let admin = Admin::connect(&addresses[0], CLUSTER).await;
        Self { addresses, namespace, admin }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> HazelcastLock {
        Self::lock_at(&self.addresses, config)
    }

    /// The members do not say who has a key's lock. The record does, once it is written.
    async fn owner(&self, id: &LockId) -> Option<String> {
        if !self.admin.is_locked(&self.locks(), id.as_str()).await {
            return None;
        }
        let record = self.admin.get(&self.records(), id.as_str()).await;
        let owner = record.map(|record| record.split(' ').nth(1).unwrap().to_owned());
        Some(owner.unwrap_or_else(|| "not on record".into()))
    }

    async fn live(&self) -> usize {
        let mut live = 0;
        for key in self.admin.keys(&self.records()).await {
            live += usize::from(self.admin.is_locked(&self.locks(), &key).await);
        }
        live
    }

    async fn evict(&self, id: &LockId) {
        self.admin.force_unlock(&self.locks(), id.as_str()).await;
    }

    async fn forget(&self, id: &LockId) {
        self.evict(id).await;
        self.admin.delete(&self.records(), id.as_str()).await;
    }
}

impl Networked for HazelcastMap {
    const FRAMING: Framing = Framing::Hazelcast;
    const CONNECTIONS_MAX: usize = 2;
    /// A member parks a request for five seconds, one for each lock that is awaited; and two connections
    /// ping every five seconds.
    const IDLE_REQUESTS_MAX: u64 = 11 * 2 * 12 + 24;
    /// The lock and the read of its record; a renewal locks once more, and then unlocks twice beside the
    /// read.
    const REQUESTS_MAX: [u64; 4] = [3, 2, 4, 1];
    const ROUND_TRIPS: [u64; 4] = [2, 1, 2, 1];
    const IDLE: Duration = Duration::from_secs(32);

    fn upstream(&self) -> SocketAddr {
        self.addresses[0].parse().unwrap()
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> HazelcastLock {
        Self::lock_at(&[server.to_string()], config)
    }

    /// Members of the free edition check the cluster's name alone.
    async fn stranger_at(&self, server: SocketAddr) -> HazelcastLock {
        let client = HazelcastClient::builder([server.to_string()])
            .cluster_name("another")
            .credentials("glock", CANARY);
        HazelcastLock::new(client.build().unwrap()).with_config(self.config()).unwrap()
    }
}

/// How long the CP sessions of the suite's members live.
pub(crate) const SESSION_TTL: Duration = Duration::from_secs(4);

/// One case's namespace, for fenced locks.
pub(crate) struct HazelcastCp {
    pub(crate) addresses: Vec<String>,
    pub(crate) namespace: String,
    pub(crate) admin: Admin,
}

impl HazelcastCp {
    fn lock_at(client: HazelcastClient, config: LockConfig) -> HazelcastFencedLock {
        let lock = HazelcastFencedLock::new(client).with_config(config).unwrap();
        lock.with_session_ttl(SESSION_TTL).unwrap().with_unsafe_mode().unwrap()
    }

    /// What a lock is called: written out here, so that a change of the layout fails a test.
    pub(crate) fn name(&self, id: &LockId) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
        let id = id.as_str().bytes().map(|byte| {
            if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
        });
        format!("{}/{}", self.namespace, id.collect::<String>())
    }

    async fn owner_of(&self, name: &str) -> Option<String> {
        let group = self.admin.group(name).await;
        let owner = self.admin.ownership(&group, name).await;
        let number = |at: usize| i64::from_le_bytes(*group[1].1[at..].first_chunk().unwrap());
        let (seed, id) = (number(0), number(8));
        (owner.fence > 0).then(|| {
            format!("cp.{seed:016x}.{id:016x}.{:016x}.{:016x}", owner.session, owner.thread)
        })
    }

    /// The locks of this case that were ever used.
    async fn names(&self) -> Vec<String> {
        let group: Vec<Frame> = self.admin.group(&format!("{}/x", self.namespace)).await;
        let names = self.admin.fenced_locks(&group).await;
        let prefix = format!("{}/", self.namespace);
        names.into_iter().filter(|name| name.starts_with(&prefix)).collect()
    }
}

impl Fixture for HazelcastCp {
    type Lock = HazelcastFencedLock;

    const HOLDER_TEST: &str = "fenced::holder_process";

    async fn open(namespace: String) -> Self {
        let servers = tokio::task::spawn_blocking(crate::servers).await.unwrap();
        let addresses = addresses(&servers);
        let admin = Admin::connect(&addresses[0], CLUSTER).await;
        Self { addresses, namespace, admin }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> HazelcastFencedLock {
        Self::lock_at(HazelcastClient::new(&self.addresses).unwrap(), config)
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        self.owner_of(&self.name(id)).await
    }

    async fn live(&self) -> usize {
        let mut live = 0;
        for name in self.names().await {
            live += usize::from(self.owner_of(&name).await.is_some());
        }
        live
    }

    /// In the name of its owner: the CP Subsystem has no other way.
    async fn evict(&self, id: &LockId) {
        let name = self.name(id);
        let group = self.admin.group(&name).await;
        self.admin.unlock(&group, &name).await;
    }

    /// Fences are of the group's log, which keeps nothing of a lock.
    async fn forget(&self, id: &LockId) {
        self.evict(id).await;
    }
}

impl Networked for HazelcastCp {
    const FRAMING: Framing = Framing::Hazelcast;
    const CONNECTIONS_MAX: usize = 2;
    /// The heartbeats of the first waiter's session for each of eleven locks, and the pings.
    const IDLE_REQUESTS_MAX: u64 = 11 * 90 + 24;
    /// A renewal is a heartbeat beside a look at the owner.
    const REQUESTS_MAX: [u64; 4] = [1, 1, 2, 1];

    fn upstream(&self) -> SocketAddr {
        self.addresses[0].parse().unwrap()
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> HazelcastFencedLock {
        Self::lock_at(HazelcastClient::new([server.to_string()]).unwrap(), config)
    }

    async fn stranger_at(&self, server: SocketAddr) -> HazelcastFencedLock {
        let client = HazelcastClient::builder([server.to_string()])
            .cluster_name("another")
            .credentials("glock", CANARY);
        Self::lock_at(client.build().unwrap(), self.config())
    }
}
