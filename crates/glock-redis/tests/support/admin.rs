//! `Admin`: a namespace of its own, and what the server itself says about it.

use std::time::Duration;

use glock_redis::{
    LockConfig, RedisLock,
    redis::{self, Client, FromRedisValue, ToRedisArgs, aio::MultiplexedConnection},
};
use glock_testing::{fresh_namespace, url_from_env};

/// A namespace of its own, on the server that `GLOCK_REDIS_URL` names or on another one.
pub(crate) struct Admin {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    connection: MultiplexedConnection,
}

impl Admin {
    pub(crate) async fn open() -> Self {
        let client = Client::open(url_from_env("GLOCK_REDIS_URL", "redis"));
        Self::at(client.expect("GLOCK_REDIS_URL is a Redis URL"), fresh_namespace()).await
    }

    pub(crate) async fn at(client: Client, namespace: String) -> Self {
        let connection = client.get_multiplexed_async_connection().await;
        let mut connection = connection.expect("the server is out of reach");
        // The driver's half second is short for a busy machine.
        connection.set_response_timeout(Duration::from_secs(10));
        Self { client, namespace, connection }
    }

    pub(crate) fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&self.namespace)
    }

    pub(crate) fn lock(&self) -> RedisLock {
        self.lock_of(self.client.clone())
    }

    pub(crate) fn lock_of(&self, client: Client) -> RedisLock {
        RedisLock::new(client).with_config(self.config()).unwrap()
    }

    /// The key of a lock.
    pub(crate) fn key(&self, name: &str) -> String {
        let name = name.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        format!("{}:{{{name}}}", self.namespace)
    }

    pub(crate) fn fence_key(&self, name: &str) -> String {
        format!("{}:fence", self.key(name))
    }

    pub(crate) fn queue_key(&self, name: &str) -> String {
        format!("{}:queue", self.key(name))
    }

    /// Sends a command, given word by word.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &str) -> T {
        let (name, args) = command.split_once(' ').unwrap_or((command, ""));
        let args: Vec<&str> = args.split_whitespace().collect();
        self.ask_with(name, args).await
    }

    /// Sends a command.
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
        let reply = cmd.arg(args).query_async(&mut self.connection.clone()).await;
        reply.unwrap_or_else(|err| panic!("{command}: {err}"))
    }

    /// How many channels of this namespace are subscribed to.
    pub(crate) async fn channels(&self) -> usize {
        let channels: Vec<String> =
            self.ask_with("PUBSUB CHANNELS", format!("{}:*", self.namespace)).await;
        channels.len()
    }

    /// A client of the same server whose user, called like the namespace, has these rules.
    pub(crate) async fn user(&self, rules: &str) -> Client {
        let user = &self.namespace;
        let () = self.ask(&format!("ACL SETUSER {user} reset on >secret {rules}")).await;
        let info = self.client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_username(user).set_password("secret");
        Client::open(info.set_redis_settings(settings)).unwrap()
    }

    pub(crate) async fn delete_user(&self) {
        let () = self.ask_with("ACL DELUSER", &self.namespace).await;
    }
}
