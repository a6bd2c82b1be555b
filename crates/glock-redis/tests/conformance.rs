//! The conformance suite against the server that `GLOCK_REDIS_URL` names.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use glock_redis::{
    Lock, LockConfig, LockId, RedisLock,
    redis::{self, Client, ConnectionAddr, IntoConnectionInfo, aio::MultiplexedConnection},
};
use glock_testing::{CANARY, Fixture, Networked, process::settles, proxy::Framing, url_from_env};

struct Redis {
    url: String,
    admin: MultiplexedConnection,
    namespace: String,
}

impl Redis {
    fn key(&self, id: &LockId) -> String {
        let id = id.as_str().replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        format!("{}:{{{id}}}", self.namespace)
    }

    fn client_of(&self, server: Option<SocketAddr>, stranger: bool) -> Client {
        let mut info = self.url.as_str().into_connection_info().unwrap();
        if let Some(server) = server {
            info = info.set_addr(ConnectionAddr::Tcp(server.ip().to_string(), server.port()));
        }
        if stranger {
            let settings = info.redis_settings().clone();
            info = info.set_redis_settings(settings.set_username("nobody").set_password(CANARY));
        }
        Client::open(info).unwrap()
    }
}

impl Fixture for Redis {
    type Lock = RedisLock;

    async fn open(namespace: String) -> Self {
        let url = url_from_env("GLOCK_REDIS_URL", "redis");
        let client = Client::open(url.as_str()).expect("GLOCK_REDIS_URL is a Redis URL");
        let admin = client.get_multiplexed_async_connection().await;
        let mut admin = admin.expect("the server that GLOCK_REDIS_URL names is out of reach");
        // The driver's half second is short for a busy machine.
        admin.set_response_timeout(Duration::from_secs(10));
        Self { url, admin, namespace }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> RedisLock {
        RedisLock::new(self.client_of(None, false)).with_config(config).unwrap()
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        let mut ask = redis::cmd("HGET");
        ask.arg(self.key(id)).arg("owner").query_async(&mut self.admin.clone()).await.unwrap()
    }

    async fn live(&self) -> usize {
        let mut ask = redis::cmd("KEYS");
        let keys: Vec<String> = ask
            .arg(format!("{}:{{*}}", self.namespace))
            .query_async(&mut self.admin.clone())
            .await
            .unwrap();
        keys.len()
    }

    /// Keys that are neither a hold nor a counter that expires, holds, and subscriptions.
    async fn residue(&self) -> usize {
        let mut admin = self.admin.clone();
        let ours = format!("{}:*", self.namespace);
        let keys: Vec<String> =
            redis::cmd("KEYS").arg(&ours).query_async(&mut admin).await.unwrap();
        let mut left = 0;
        for key in keys {
            let counter = key.ends_with("}:fence");
            // -1 is for ever; -2 is gone meanwhile.
            let millis: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut admin).await.unwrap();
            left += usize::from(millis == -1 || millis != -2 && !counter);
        }
        let mut channels = redis::cmd("PUBSUB");
        channels.arg("CHANNELS").arg(&ours);
        let channels: Vec<String> = channels.query_async(&mut admin).await.unwrap();
        left + channels.len()
    }

    async fn evict(&self, id: &LockId) {
        let mut ask = redis::cmd("DEL");
        let () = ask.arg(self.key(id)).query_async(&mut self.admin.clone()).await.unwrap();
    }

    async fn forget(&self, id: &LockId) {
        let key = self.key(id);
        let mut ask = redis::cmd("DEL");
        ask.arg(&key).arg(format!("{key}:fence"));
        let () = ask.query_async(&mut self.admin.clone()).await.unwrap();
    }
}

impl Networked for Redis {
    const FRAMING: Framing = Framing::Resp;
    /// Commands and messages share one.
    const CONNECTIONS_MAX: usize = 1;

    fn upstream(&self) -> SocketAddr {
        let info = self.url.as_str().into_connection_info().unwrap();
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                (host.as_str(), *port).to_socket_addrs().unwrap().next().unwrap()
            }
            other => panic!("the suite's proxy needs a plain TCP server, not {other}"),
        }
    }

    async fn client_at(&self, server: SocketAddr, config: LockConfig) -> RedisLock {
        RedisLock::new(self.client_of(Some(server), false)).with_config(config).unwrap()
    }

    async fn stranger_at(&self, server: SocketAddr) -> RedisLock {
        let lock = RedisLock::new(self.client_of(Some(server), true));
        lock.with_config(self.config()).unwrap()
    }
}

glock_testing::conformance!(Redis, "needs a server: run `cargo xtask integration redis`");

/// What the README says stays does not count; all else does.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn what_is_left_is_counted() {
    let redis = Redis::open(glock_testing::fresh_namespace()).await;
    let mut admin = redis.admin.clone();
    let (lock, x) = (redis.client().await, LockId::new("x").unwrap());
    let (key, stray) = (redis.key(&x), format!("{}:queue", redis.namespace));
    assert_eq!(redis.residue().await, 0);
    let lease = lock.acquire(&x, Duration::from_mins(1)).await.unwrap();
    assert_eq!(redis.residue().await, 1, "a hold");
    lock.release(&lease).await.unwrap();
    assert_eq!(redis.residue().await, 0, "a counter that expires stays");
    let mut persist = redis::cmd("PERSIST");
    let () = persist.arg(format!("{key}:fence")).query_async(&mut admin).await.unwrap();
    assert_eq!(redis.residue().await, 1, "a counter that never expires");
    redis.forget(&x).await;
    let mut set = redis::cmd("SET");
    let () = set.arg(&stray).arg(1).arg("EX").arg(60).query_async(&mut admin).await.unwrap();
    assert_eq!(redis.residue().await, 1, "a key that nobody told of");
    let () = redis::cmd("DEL").arg(&stray).query_async(&mut admin).await.unwrap();
    let client = redis.client_of(None, false);
    let mut subscriber = client.get_async_pubsub().await.unwrap();
    subscriber.subscribe(&key).await.unwrap();
    assert_eq!(redis.residue().await, 1, "a subscription");
    drop(subscriber);
    let gone = async || redis.residue().await;
    settles("what was planted", Duration::from_secs(5), 0, gone).await;
}

/// The same over connections that the application manages, where waiters have to ask.
mod given {
    use glock_redis::{LockConfig, LockId, RedisLock};
    use glock_testing::Fixture;

    use super::Redis;

    struct Given(Redis);

    impl Fixture for Given {
        type Lock = RedisLock;

        async fn open(namespace: String) -> Self {
            Self(Redis::open(namespace).await)
        }

        fn config(&self) -> LockConfig {
            self.0.config()
        }

        async fn client_with(&self, config: LockConfig) -> RedisLock {
            let client = self.0.client_of(None, false);
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
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

        async fn evict(&self, id: &LockId) {
            self.0.evict(id).await;
        }

        async fn forget(&self, id: &LockId) {
            self.0.forget(id).await;
        }
    }

    glock_testing::contract!(
        Given,
        (#[ignore = "needs a server: run `cargo xtask integration redis`"])
    );
}
