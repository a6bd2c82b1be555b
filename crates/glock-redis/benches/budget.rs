//! A lock on Redis beside the bare driver running the same scripts, on the server that
//! `GLOCK_REDIS_URL` names.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use glock_harness::bench::Raw;
use glock_redis::{
    LockConfig, RedisLock,
    redis::{
        AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
        Script, Value, aio::MultiplexedConnection,
    },
};
use glock_testing::{fresh_namespace, url_from_env};
use tokio::sync::broadcast;

/// What an engineer would type: the same writes, one connection for commands and messages.
#[derive(Clone)]
struct ByHand {
    connection: MultiplexedConnection,
    messages: broadcast::Sender<PushInfo>,
    namespace: Arc<str>,
    owners: Arc<AtomicU64>,
    acquire: Script,
    release: Script,
}

impl ByHand {
    async fn connect(client: &Client) -> Self {
        let info = client.get_connection_info().clone();
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_tcp_settings(tcp).set_redis_settings(settings))
            .expect("the client's own settings");
        let (messages, _) = broadcast::channel(64);
        let config = AsyncConnectionConfig::new().set_push_sender(messages.clone());
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        Self {
            connection: connection.expect("the server that GLOCK_REDIS_URL names"),
            messages,
            namespace: fresh_namespace().into(),
            owners: Arc::default(),
            acquire: Script::new(include_str!("../scripts/acquire.lua")),
            release: Script::new(include_str!("../scripts/release.lua")),
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{{{name}}}", self.namespace)
    }
}

impl Raw for ByHand {
    type Grant = String;
    type Listener = (String, broadcast::Receiver<PushInfo>);

    async fn acquire(&self, name: &str) -> String {
        let owner = format!("{:032x}", self.owners.fetch_add(1, Relaxed));
        let key = self.key(name);
        let (won, _token): (i64, String) = self
            .acquire
            .key(&key)
            .key(format!("{key}:fence"))
            .arg(&owner)
            .arg(60_000)
            .arg("bench")
            .invoke_async(&mut self.connection.clone())
            .await
            .expect("a lock that is free");
        assert_eq!(won, 1);
        owner
    }

    async fn release(&self, name: &str, owner: String) {
        let held: i64 = self
            .release
            .key(self.key(name))
            .arg(owner)
            .invoke_async(&mut self.connection.clone())
            .await
            .expect("a lock that is held");
        assert_eq!(held, 1);
    }

    async fn listen(&self, name: &str) -> Self::Listener {
        let (key, messages) = (self.key(name), self.messages.subscribe());
        self.connection.clone().subscribe(&key).await.expect("a subscription");
        (key, messages)
    }

    async fn released(&self, (key, messages): &mut Self::Listener) {
        loop {
            let message = messages.recv().await.expect("a connection");
            let channel = message.data.first();
            if message.kind == PushKind::Message
                && matches!(channel, Some(Value::BulkString(name)) if name == key.as_bytes())
            {
                return;
            }
        }
    }
}

fn main() -> std::process::ExitCode {
    let url = url_from_env("GLOCK_REDIS_URL", "redis");
    let info = url.as_str().into_connection_info().expect("GLOCK_REDIS_URL is a Redis URL");
    let client = Client::open(info).expect("GLOCK_REDIS_URL is a Redis URL");
    let config = LockConfig::default().with_namespace(fresh_namespace());
    let lock = || RedisLock::new(client.clone()).with_config(config.clone());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let holds = runtime.block_on(async {
        let (lock, second) = (lock().expect("settings"), lock().expect("settings"));
        let raw = ByHand::connect(&client).await;
        glock_harness::bench::run("redis", lock, second, raw).await
    });
    if holds { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
