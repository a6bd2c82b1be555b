//! A lock on Hazelcast's map beside the same requests by hand, on the member that `GLOCK_HAZELCAST_URL` names.
//!
//! There is no driver to compare with, so that by hand is by this crate's own wire.

#[path = "../src/wire/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "a part of it is for the crate"
)]
mod wire;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_harness::bench::Raw;
use glock_hazelcast::{HazelcastClient, HazelcastLock, LockConfig};
use glock_testing::{fresh_namespace, url_from_env};
use tokio::{net::TcpStream, time::Instant, try_join};

use crate::wire::{
    Connection, HazelcastError, Liveness, PendingReply, Request, Uuid,
    auth::{Login, Welcome},
    map::{self, Key},
    string,
};

/// What an engineer would type: lock, next fence by compare-and-set, unlock.
#[derive(Clone)]
struct ByHand {
    connection: Connection,
    welcome: Welcome,
    locks: Arc<str>,
    records: Arc<str>,
    threads: Arc<AtomicI64>,
}

struct NoOne;

impl Liveness for NoOne {
    fn replied(&self, _sent_at: Instant) {}

    fn closed(&self) {}
}

impl ByHand {
    async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the member is out of reach");
        stream.set_nodelay(true).expect("a socket");
        let client = Uuid::random().expect("random numbers");
        let login =
            Login { cluster: "dev".into(), credentials: None, client, name: "bench".into() };
        let opened = Connection::open(stream.into_split(), &login, NoOne).await;
        let (connection, welcome) = opened.expect("a login");
        let map = fresh_namespace();
        let (locks, records) = (map.clone().into(), format!("{map}#fence").into());
        Self { connection, welcome, locks, records, threads: Arc::new(AtomicI64::new(1)) }
    }

    fn send(&self, request: Request) -> PendingReply {
        self.connection.send(request).expect("a connection")
    }

    async fn put_on_record(&self, name: &str, thread: i64, last: Option<Vec<u8>>) {
        let data = string(name);
        let key = Key::new(&self.records, &data, self.welcome.partitions);
        let fence = last.as_deref().and_then(wire::text).map_or(0, |last| {
            let fence = last.split(' ').next().and_then(|fence| fence.parse::<u64>().ok());
            fence.expect("a fence") + 1
        });
        let value = string(&format!("{fence} map.0123456789abcdef.{thread} 60000 bench:1"));
        let done = if let Some(last) = &last {
            let reply = self.send(key.replace_if_same(thread, last, &value)).await;
            reply.and_then(|reply| map::answer(reply, map::REPLACE_IF_SAME))
        } else {
            let reply = self.send(key.put_if_absent(thread, &value)).await;
            let before = reply.and_then(|reply| map::value(reply, map::PUT_IF_ABSENT));
            before.map(|before| before.is_none())
        };
        assert!(done.expect("a reply"), "another one has the lock");
    }
}

impl Raw for ByHand {
    type Grant = i64;
    type Listener = PendingReply;

    async fn acquire(&self, name: &str) -> i64 {
        let (thread, data) = (self.threads.fetch_add(1, Relaxed), string(name));
        let partitions = self.welcome.partitions;
        let lock = Key::new(&self.locks, &data, partitions).try_lock(thread, thread, (61_000, 0));
        let read = Key::new(&self.records, &data, partitions).get(thread);
        let both = async { try_join!(self.send(lock), self.send(read)) };
        let (locked, read): (_, _) = both.await.expect("replies");
        assert!(map::answer(locked, map::TRY_LOCK).expect("a reply"), "another one has the lock");
        let last = map::value(read, map::GET).expect("a value");
        self.put_on_record(name, thread, last).await;
        thread
    }

    async fn release(&self, name: &str, thread: i64) {
        let data = string(name);
        let key = Key::new(&self.locks, &data, self.welcome.partitions);
        let reply: Result<_, HazelcastError> = self.send(key.unlock(thread, -thread)).await;
        map::done(reply.expect("a reply"), map::UNLOCK).expect("a release");
    }

    async fn listen(&self, name: &str) -> PendingReply {
        let data = string(name);
        let key = Key::new(&self.locks, &data, self.welcome.partitions);
        self.send(key.await_unlocked(self.threads.fetch_add(1, Relaxed)))
    }

    async fn released(&self, listener: &mut PendingReply) {
        listener.await.expect("a reply");
    }
}

fn main() -> ExitCode {
    let url = url_from_env("GLOCK_HAZELCAST_URL", "hazelcast");
    let config = LockConfig::default().with_namespace(fresh_namespace());
    let lock =
        || HazelcastLock::new(HazelcastClient::new(url.split(','))?).with_config(config.clone());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let holds = runtime.block_on(async {
        let by_hand = ByHand::open(url.split(',').next().unwrap_or_default()).await;
        let (lock, second) = (lock().expect("settings"), lock().expect("settings"));
        let holds = glock_harness::bench::run("hazelcast", lock, second, by_hand).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        holds
    });
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
