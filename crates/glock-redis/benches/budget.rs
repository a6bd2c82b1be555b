//! A lock on Redis beside the bare driver running the same scripts, on the server that
//! `GLOCK_REDIS_URL` names; and beside `SET NX PX` with compare-and-delete, which has neither tokens nor a
//! queue. With `--crowd`: how it passes on between many processes.

use std::{
    collections::HashSet,
    process::ExitCode,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_harness::bench::{Raw, crowd};
use glock_redis::{
    LockConfig, RedisLock,
    redis::{
        self, AsyncCommands, AsyncConnectionConfig, Client, IntoConnectionInfo, ProtocolVersion,
        PushInfo, PushKind, Script, Value, aio::MultiplexedConnection,
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
    /// The keys whose release is published.
    listened: Arc<Mutex<HashSet<String>>>,
    acquire: Script,
    release: Script,
    /// Takes a lock by `SET NX PX`, and releases it by a script that compares and deletes.
    is_bare: bool,
}

const COMPARE_AND_DELETE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
    return redis.call('DEL', KEYS[1]) else return 0 end";

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
            listened: Arc::default(),
            acquire: script(include_str!("../scripts/acquire.lua")),
            release: script(include_str!("../scripts/release.lua")),
            is_bare: false,
        }
    }

    fn bare(self) -> Self {
        Self { release: Script::new(COMPARE_AND_DELETE), is_bare: true, ..self }
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{{{name}}}", self.namespace)
    }
}

/// A script as a lock sends it.
fn script(text: &str) -> Script {
    let queue = include_str!("../scripts/queue.lua");
    Script::new(&text.replacen("-- include queue.lua\n", queue, 1))
}

impl Raw for ByHand {
    type Grant = String;
    type Listener = (String, broadcast::Receiver<PushInfo>);

    async fn acquire(&self, name: &str) -> String {
        let owner = format!("{:032x}", self.owners.fetch_add(1, Relaxed));
        let key = self.key(name);
        if self.is_bare {
            let mut set = redis::cmd("SET");
            set.arg(&key).arg(&owner).arg("NX").arg("PX").arg(60_000);
            set.exec_async(&mut self.connection.clone()).await.expect("a lock that is free");
            return owner;
        }
        let _token: u64 = self
            .acquire
            .key(&key)
            .key(format!("{key}:fence"))
            .key(format!("{key}:queue"))
            .arg(&owner)
            .arg(60_000)
            .arg(86_460_000)
            .arg("bench")
            .arg("channel:")
            .invoke_async(&mut self.connection.clone())
            .await
            .expect("a lock that is free");
        owner
    }

    async fn release(&self, name: &str, owner: String) {
        let (key, mut connection) = (self.key(name), self.connection.clone());
        let mut release = self.release.key(&key);
        if self.is_bare {
            release.arg(owner);
        } else {
            let (fence, queue) = (format!("{key}:fence"), format!("{key}:queue"));
            release.key(fence).key(queue).arg(owner).arg("channel:");
        }
        let held: i64 = release.invoke_async(&mut connection).await.expect("a lock that is held");
        assert_eq!(held, 1);
        let is_listened = self.listened.lock().expect("no panic").contains(&key);
        if is_listened {
            let _: i64 = connection.publish(&key, "free").await.expect("a message");
        }
    }

    async fn listen(&self, name: &str) -> Self::Listener {
        let (key, messages) = (self.key(name), self.messages.subscribe());
        self.connection.clone().subscribe(&key).await.expect("a subscription");
        self.listened.lock().expect("no panic").insert(key.clone());
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

/// How many scripts the server was sent.
async fn scripts(connection: &MultiplexedConnection) -> u64 {
    let mut info = redis::cmd("INFO");
    info.arg("commandstats");
    let stats: String = info.query_async(&mut connection.clone()).await.expect("its counters");
    let calls = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_eval"));
    let calls = calls.filter_map(|line| line.split_once("calls=")?.1.split(',').next());
    calls.filter_map(|calls| calls.parse::<u64>().ok()).sum()
}

fn main() -> ExitCode {
    let url = url_from_env("GLOCK_REDIS_URL", "redis");
    let info = url.as_str().into_connection_info().expect("GLOCK_REDIS_URL is a Redis URL");
    let client = Client::open(info).expect("GLOCK_REDIS_URL is a Redis URL");
    let lock = |namespace: &str| {
        let config = LockConfig::default().with_namespace(namespace);
        RedisLock::new(client.clone()).with_config(config).expect("settings")
    };
    if crowd::contended(lock) {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let holds = runtime.block_on(async {
        if crowd::is_asked_for() {
            let connection = client.get_multiplexed_async_connection().await;
            let mut connection = connection.expect("the server that GLOCK_REDIS_URL names");
            // The driver's half second is short for a crowd.
            connection.set_response_timeout(Duration::from_secs(10));
            return crowd::run("redis", async || scripts(&connection).await).await.is_ok();
        }
        let namespace = fresh_namespace();
        let raw = ByHand::connect(&client).await;
        let (ours, second) = (lock(&namespace), lock(&namespace));
        let holds = glock_harness::bench::run("redis", ours.clone(), second, raw.clone()).await;
        glock_harness::bench::beside("redis", &ours, &raw.bare()).await;
        holds
    });
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
