//! `Server`: the toy store behind a socket: one line a request, one line a reply.
//!
//! | request | reply |
//! |---|---|
//! | `AUTH password` | `OK`, `DENIED` |
//! | `ACQUIRE key owner ttl label` | `GRANTED fence`, `HELD fence left label` |
//! | `RENEW key owner ttl` | `OK`, `LOST` |
//! | `RELEASE key owner` | `OK`, `LOST` |
//! | `LOOK key` | `FREE`, `HELD fence left label` |
//! | `ENTER key owner ttl label waiter` | `GRANTED fence`, `QUEUED first left` |
//! | `LEAVE key waiter` | `OK` |
//! | `BEAT key waiter,waiter ..` | `BEAT turn first left lost,lost ..` |
//! | `LIST prefix after max` | `HOLDS next key:fence:left:label ..` |
//! | `FORCE key fence` | `OK`, `LOST` |
//! | `LISTEN prefix` | `OK`, and `FREED key` for each release and `TURN key waiter` for each turn from then on |
//!
//! Times are milliseconds; keys and labels are hexadecimal, so that no character of them means
//! anything.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use glock_core::toolkit::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::{Builder, Runtime},
};

use crate::{
    flaw::Flaw,
    store::{Hold, Store},
};

pub(crate) const PASSWORD: &str = "open-sesame";

/// One a flaw and process, started when it is first asked for.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub addr: SocketAddr,
    pub store: Arc<Store>,
}

impl Server {
    pub(crate) fn with(flaw: Flaw) -> Self {
        static SERVERS: Mutex<BTreeMap<Flaw, Server>> = Mutex::new(BTreeMap::new());
        let mut servers = SERVERS.lock();
        servers.entry(flaw).or_insert_with(|| Self::start(flaw)).clone()
    }

    fn start(flaw: Flaw) -> Self {
        let store = Arc::new(Store::new(flaw));
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        runtime().spawn(accept(listener, Arc::clone(&store)));
        Self { addr, store }
    }
}

/// The servers' own, because a case's runtime ends with the case.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let new = || Builder::new_multi_thread().worker_threads(1).enable_all().build();
    RUNTIME.get_or_init(|| new().unwrap())
}

async fn accept(listener: std::net::TcpListener, store: Arc<Store>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            // A client that closes its connection needs no reply.
            let _ = serve(&store, stream).await;
        });
    }
}

async fn serve(store: &Store, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (requests, mut replies) = stream.into_split();
    let mut requests = BufReader::new(requests);
    let mut welcome = false;
    while let Some(request) = next_request(store.flaw, &mut requests).await? {
        let words: Vec<&str> = request.split(' ').collect();
        let reply = match *words.as_slice() {
            ["AUTH", password] => {
                welcome = password == PASSWORD;
                if welcome { "OK".to_owned() } else { "DENIED".to_owned() }
            }
            _ if !welcome => "DENIED".to_owned(),
            ["LISTEN", prefix] => return publish(store, prefix, requests, replies).await,
            _ => answer(store, &words).await,
        };
        replies.write_all(format!("{reply}\n").as_bytes()).await?;
    }
    Ok(())
}

/// A line without its end is none.
async fn next_request(
    flaw: Flaw,
    requests: &mut BufReader<OwnedReadHalf>,
) -> io::Result<Option<String>> {
    let mut line = Vec::with_capacity(4096);
    if flaw == Flaw::RunsHalfRequests {
        requests.read_buf(&mut line).await?;
    } else {
        requests.read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
    }
    let line = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
    Ok(Some(line).filter(|line| !line.is_empty()))
}

async fn answer(store: &Store, words: &[&str]) -> String {
    let ttl = |millis: &str| Duration::from_millis(millis.parse().unwrap_or(u64::MAX));
    let done = |done| if done { "OK".to_owned() } else { "LOST".to_owned() };
    match *words {
        ["ACQUIRE", key, owner, millis, label] => {
            match store.acquire(key, owner, label, ttl(millis)).await {
                Ok(fence) => format!("GRANTED {fence}"),
                Err(hold) => shown(store, &hold),
            }
        }
        ["ENTER", key, owner, millis, label, waiter] => {
            match store.enter((key, owner, label), ttl(millis), waiter) {
                Ok(fence) => format!("GRANTED {fence}"),
                Err((first, left)) => format!("QUEUED {} {left}", u8::from(first)),
            }
        }
        ["LEAVE", key, waiter] => done(store.leave(key, waiter)),
        ["BEAT", ref locks @ ..] => {
            let found = locks.chunks_exact(2).map(|lock| store.on_heartbeat(lock[0], lock[1]));
            format!("BEAT {}", found.collect::<Vec<_>>().join(" "))
        }
        ["ACQUIRE", key, owner, ..] if store.flaw == Flaw::RunsHalfRequests => {
            let _ = store.acquire(key, owner, "", ttl("60000")).await;
            "ERROR".to_owned()
        }
        ["RENEW", key, owner, millis] => done(store.renew(key, owner, ttl(millis))),
        ["RELEASE", key, owner] => done(store.release(key, owner).await),
        ["EVICT", key] if store.flaw == Flaw::CutReleaseIsForced => {
            store.evict(key);
            let _ = store.freed.send(key.into());
            done(true)
        }
        ["LIST", prefix, after, max] => {
            let (next, holds) = store.list(prefix, after, max.parse().unwrap_or(1));
            let shown = |(key, hold): &(String, Hold)| {
                let (left, label) = (left_of(store, hold), &hold.label);
                format!(" {key}:{}:{left}:{label}", hold.fence)
            };
            format!("HOLDS {next}{}", holds.iter().map(shown).collect::<String>())
        }
        ["FORCE", key, fence] => done(store.force_release(key, fence.parse().unwrap_or(0))),
        ["LOOK", key] => store.look(key).map_or("FREE".to_owned(), |hold| shown(store, &hold)),
        _ => "ERROR".to_owned(),
    }
}

fn shown(store: &Store, hold: &Hold) -> String {
    format!("HELD {} {} {}", hold.fence, left_of(store, hold), hold.label)
}

fn left_of(store: &Store, hold: &Hold) -> u128 {
    let left = hold.millis_left();
    if store.flaw == Flaw::ShowsMoreThanIsLeft { left * 2 } else { left }
}

/// Tells of releases until the client hangs up.
async fn publish(
    store: &Store,
    prefix: &str,
    mut requests: BufReader<OwnedReadHalf>,
    mut replies: OwnedWriteHalf,
) -> io::Result<()> {
    static FIRST: Mutex<BTreeMap<String, SocketAddr>> = Mutex::new(BTreeMap::new());
    let us = replies.peer_addr()?;
    let first = {
        let mut first = FIRST.lock();
        *first.entry(prefix.to_owned()).or_insert(us)
    };
    let skipped = store.flaw == Flaw::WakesOneClient && first != us;
    let mut freed = store.freed.subscribe();
    replies.write_all(b"OK\n").await?;
    let mut said = [0];
    loop {
        tokio::select! {
            key = freed.recv() => match key {
                Ok(key) if key.starts_with(prefix) && !skipped => {
                    let verb = if key.contains(' ') { "TURN" } else { "FREED" };
                    replies.write_all(format!("{verb} {key}\n").as_bytes()).await?;
                }
                Ok(_) => {}
                // It missed some: hanging up tells it so.
                Err(_) => return Ok(()),
            },
            // A listener has nothing to say.
            said = requests.read(&mut said) => return said.map(drop),
        }
    }
}
