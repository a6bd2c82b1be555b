//! `Redis`: the server that `GLOCK_REDIS_URL` names, as the conformance suite sees it.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use glock_redis::{
    LockConfig, LockId, RedisLock,
    redis::{Client, ConnectionAddr},
};
use glock_testing::{CANARY, Fixture, Networked, proxy::Framing, url_from_env};

use crate::support::admin::Admin;

pub(crate) struct Redis {
    pub(crate) admin: Admin,
}

impl Redis {
    /// A client of the same server by way of `server`.
    fn client_at(&self, server: SocketAddr) -> Client {
        let info = self.admin.client.get_connection_info().clone();
        let addr = ConnectionAddr::Tcp(server.ip().to_string(), server.port());
        Client::open(info.set_addr(addr)).unwrap()
    }
}

impl Fixture for Redis {
    type Lock = RedisLock;
    /// A reservation.
    const PASSED_OVER_MAX: Duration = Duration::from_millis(1_500);
    const RESERVES: bool = true;

    async fn open(namespace: String) -> Self {
        let client = Client::open(url_from_env("GLOCK_REDIS_URL", "redis"));
        let client = client.expect("GLOCK_REDIS_URL is a Redis URL");
        Self { admin: Admin::at(client, namespace).await }
    }

    fn config(&self) -> LockConfig {
        self.admin.config()
    }

    async fn client_with(&self, config: LockConfig) -> RedisLock {
        RedisLock::new(self.admin.client.clone()).with_config(config).unwrap()
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        let held: Option<String> = self.admin.ask_with("GET", self.admin.key(id.as_str())).await;
        // While it is reserved for a waiter, it has no owner.
        held.and_then(|held| Some(held.split_once(' ')?.0.to_owned()))
    }

    async fn live(&self) -> usize {
        let mut live = 0;
        for key in self.admin.ask_with::<Vec<String>>("KEYS", self.admin.key("*")).await {
            let held: Option<String> = self.admin.ask_with("GET", &key).await;
            live += usize::from(held.is_some_and(|held| !held.starts_with('@')));
        }
        live
    }

    /// Keys that are not a counter that expires: holds, reservations, queues; and subscriptions.
    async fn residue(&self) -> usize {
        let ours = format!("{}:*", self.admin.namespace);
        let mut left = self.admin.channels().await;
        for key in self.admin.ask_with::<Vec<String>>("KEYS", ours).await {
            let counter = key.ends_with("}:fence");
            // -1 is for ever; -2 is gone meanwhile.
            let millis: i64 = self.admin.ask_with("PTTL", &key).await;
            left += usize::from(millis == -1 || millis != -2 && !counter);
        }
        left
    }

    /// The queue has other members too: see `queue.lua`.
    async fn waiters(&self, id: &LockId) -> usize {
        self.admin.ask_with("ZCOUNT", (self.admin.queue_key(id.as_str()), 1, "+inf")).await
    }

    async fn evict(&self, id: &LockId) {
        let () = self.admin.ask_with("DEL", self.admin.key(id.as_str())).await;
    }

    async fn forget(&self, id: &LockId) {
        let id = id.as_str();
        let keys = (self.admin.key(id), self.admin.fence_key(id), self.admin.queue_key(id));
        let () = self.admin.ask_with("DEL", keys).await;
    }
}

impl Networked for Redis {
    const FRAMING: Framing = Framing::Resp;
    /// Commands and messages share one.
    const CONNECTIONS_MAX: usize = 1;
    /// One heartbeat a second for all waiters of a client.
    const IDLE_REQUESTS_MAX: u64 = 66;

    fn upstream(&self) -> SocketAddr {
        match self.admin.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) => {
                (host.as_str(), *port).to_socket_addrs().unwrap().next().unwrap()
            }
            other => panic!("the suite's proxy needs a plain TCP server, not {other}"),
        }
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> RedisLock {
        RedisLock::new(self.client_at(server)).with_config(config).unwrap()
    }

    async fn stranger_at(&self, server: SocketAddr) -> RedisLock {
        let info = self.client_at(server).get_connection_info().clone();
        let settings = info.redis_settings().clone();
        let settings = settings.set_username("nobody").set_password(CANARY);
        self.admin.lock_of(Client::open(info.set_redis_settings(settings)).unwrap())
    }
}

/// The same over connections that the application manages, where waiters poll.
pub(crate) struct CallerConnection(Redis);

impl Fixture for CallerConnection {
    type Lock = RedisLock;
    const PASSED_OVER_MAX: Duration = Redis::PASSED_OVER_MAX;
    const RESERVES: bool = Redis::RESERVES;

    async fn open(namespace: String) -> Self {
        Self(Redis::open(namespace).await)
    }

    fn config(&self) -> LockConfig {
        self.0.config()
    }

    async fn client_with(&self, config: LockConfig) -> RedisLock {
        let mut connection = self.0.admin.client.get_multiplexed_async_connection().await.unwrap();
        connection.set_response_timeout(config.call_timeout);
        RedisLock::from_connection(connection).with_config(config).unwrap()
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

    async fn waiters(&self, id: &LockId) -> usize {
        self.0.waiters(id).await
    }

    async fn evict(&self, id: &LockId) {
        self.0.evict(id).await;
    }

    async fn forget(&self, id: &LockId) {
        self.0.forget(id).await;
    }
}
