//! `DynamoDb`: the server that `GLOCK_DYNAMODB_URL` names, as the conformance suite sees it.

use std::{collections::HashMap, net::SocketAddr, sync::Mutex, time::Duration};

use glock_dynamodb::{DynamoDbLock, LockConfig, LockId, aws_sdk_dynamodb::config::Credentials};
use glock_testing::{CANARY, Fixture, Networked, proxy::Framing};
use tokio::time::Instant;

use crate::support::{
    admin::{Admin, IDLE, Item, conf, lock, waiters},
    fake_server::FakeServer,
};

pub(crate) struct DynamoDb {
    namespace: String,
    admin: Admin,
    /// The server has no clock, so this watches the versions as any client does: the owner and the number
    /// of each key's, and since when.
    seen: Mutex<HashMap<String, (String, String, Instant)>>,
}

impl DynamoDb {
    fn key(&self, id: &LockId) -> String {
        format!("{}/{id}", self.namespace)
    }

    /// The owner on record, unless its lease has run out.
    fn live_owner(&self, item: &Item) -> Option<String> {
        let key = item["lock_id"].as_s().unwrap().clone();
        let owner = item.get("owner")?.as_s().unwrap().clone();
        let number = item["version"].as_n().unwrap().clone();
        let lease = Duration::from_millis(item["lease_ms"].as_n().unwrap().parse().unwrap());
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap();
        let entry = seen.entry(key).or_insert_with(|| (owner.clone(), number.clone(), now));
        if (&entry.0, &entry.1) != (&owner, &number) {
            *entry = (owner.clone(), number, now);
        }
        (now - entry.2 < lease).then_some(owner)
    }
}

impl Fixture for DynamoDb {
    type Lock = DynamoDbLock;

    const KEPT_IDLE: Duration = IDLE.saturating_mul(3);
    /// Two seconds, by the clock of a client that reads once a second at least.
    const PASSED_OVER_MAX: Duration = Duration::from_secs(4);
    const RESERVES: bool = true;

    async fn open(namespace: String) -> Self {
        Self { namespace, admin: Admin::open().await, seen: Mutex::default() }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&*self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> DynamoDbLock {
        lock(conf(self.admin.addr).build(), config)
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        let item = self.admin.item(&self.key(id)).await?;
        self.live_owner(&item)
    }

    async fn live(&self) -> usize {
        let items = self.admin.items(&format!("{}/", self.namespace)).await;
        items.iter().filter(|item| self.live_owner(item).is_some()).count()
    }

    async fn residue(&self) -> usize {
        let items = self.admin.items(&format!("{}/", self.namespace)).await;
        let waiters: usize = items.iter().map(|item| waiters(item).len()).sum();
        waiters + self.live().await
    }

    async fn waiters(&self, id: &LockId) -> usize {
        self.admin.item(&self.key(id)).await.map_or(0, |item| waiters(&item).len())
    }

    async fn evict(&self, id: &LockId) {
        self.admin.evict(&self.key(id)).await;
    }

    async fn forget(&self, id: &LockId) {
        self.admin.delete(&self.key(id)).await;
    }
}

impl Networked for DynamoDb {
    /// HTTP/1.1: each request waits for the reply to the last.
    const FRAMING: Framing = Framing::Turns;
    /// HTTP/1.1 serves one request at a time. So one for each of the 64 that are on their way, and one that
    /// the HTTP client has opened while it waited for that.
    const CONNECTIONS_MAX: usize = 128;
    const WAKES: bool = false;

    fn upstream(&self) -> SocketAddr {
        self.admin.addr
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> DynamoDbLock {
        lock(conf(server).build(), config)
    }

    /// DynamoDB Local takes any credentials, so a server that refuses all stands in front of it.
    async fn stranger_at(&self, _server: SocketAddr) -> DynamoDbLock {
        let addr = FakeServer::start_refusing().await;
        let stranger = Credentials::new("AKIDSTRANGER", CANARY, Some(CANARY.into()), None, "tests");
        lock(conf(addr).credentials_provider(stranger).build(), self.config())
    }
}
