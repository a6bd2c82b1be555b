//! What the tests share.
#![allow(dead_code, reason = "two test programs share it")]

use std::time::Duration;

use glock_redis::{
    LockConfig, LockId, RedisLock,
    redis::{self, Client, FromRedisValue, ToRedisArgs, aio::MultiplexedConnection},
};
use glock_testing::{fresh_namespace, url_from_env};

/// A TTL that does not run out during a test.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// How much later than promised something may happen on a busy machine.
pub(crate) const SLACK: Duration = Duration::from_millis(600);

pub(crate) fn id(name: &str) -> LockId {
    LockId::new(name).unwrap()
}

/// A namespace of its own, on the server that `GLOCK_REDIS_URL` names or on another one.
pub(crate) struct Server {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    admin: MultiplexedConnection,
}

impl Server {
    pub(crate) async fn open() -> Self {
        let client = Client::open(url_from_env("GLOCK_REDIS_URL", "redis")).unwrap();
        Self::at(client).await
    }

    pub(crate) async fn at(client: Client) -> Self {
        let admin = client.get_multiplexed_async_connection().await;
        let mut admin = admin.expect("the server is out of reach");
        // The driver's half second is short for a busy machine.
        admin.set_response_timeout(Duration::from_secs(10));
        Self { client, namespace: fresh_namespace(), admin }
    }

    pub(crate) fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&self.namespace)
    }

    pub(crate) fn lock(&self) -> RedisLock {
        RedisLock::new(self.client.clone()).with_config(self.config()).unwrap()
    }

    /// The key of a lock whose id needs no encoding.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}:{{{name}}}", self.namespace)
    }

    pub(crate) fn fence_key(&self, name: &str) -> String {
        format!("{}:fence", self.key(name))
    }

    /// Asks the server itself, word by word.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        let (name, args) = command.split_once(' ').unwrap_or((command, ""));
        let args: Vec<&str> = args.split_whitespace().collect();
        self.ask_with(name, args).await
    }

    /// Asks the server itself.
    pub(crate) async fn ask_with<T: FromRedisValue>(
        &self,
        command: &str,
        args: impl ToRedisArgs,
    ) -> T {
        let mut words = command.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        for word in words {
            cmd.arg(word);
        }
        let answer = cmd.arg(args).query_async(&mut self.admin.clone()).await;
        answer.unwrap_or_else(|err| panic!("{command}: {err}"))
    }

    /// How many subscriptions there are to channels of this namespace.
    pub(crate) async fn channels(&self) -> usize {
        let channels: Vec<String> =
            self.ask_with("PUBSUB CHANNELS", format!("{}:*", self.namespace)).await;
        channels.len()
    }
}

/// Waits until `reached` says so.
pub(crate) async fn eventually(what: &str, reached: impl AsyncFn() -> bool) {
    for _ in 0..500 {
        if reached().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within ten seconds: {what}");
}
