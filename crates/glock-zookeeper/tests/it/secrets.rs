//! The driver's log contains no owner token.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use glock_testing::{Fixture, Networked, Proxy, fresh_namespace};
use glock_zookeeper::{Lease, Lock, LockExt, LockId, Retry};
use tracing::{Level, Metadata};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

use crate::support::{admin::in_queue, fixture::ZooKeeper};

const TTL: Duration = Duration::from_mins(2);

/// What is logged on all threads, until the guard that comes with it is dropped. A session has a thread
/// of its own, so a subscriber of one thread does not see it.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

/// Ends the reading of a log.
pub(crate) struct Reading(Log);

/// The logs that are read, and up to which level.
static LOGS: Mutex<Vec<(LevelFilter, Log)>> = Mutex::new(Vec::new());

impl Log {
    pub(crate) fn read(level: LevelFilter) -> (Self, Reading) {
        static SUBSCRIBER: OnceLock<()> = OnceLock::new();
        SUBSCRIBER.get_or_init(|| {
            let all = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false);
            all.with_writer(Logs).init();
        });
        let log = Self::default();
        LOGS.lock().unwrap().push((level, log.clone()));
        (log.clone(), Reading(log))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        LOGS.lock().unwrap().retain(|(_, log)| !Arc::ptr_eq(&log.0, &self.0.0));
    }
}

struct Logs;

/// Writes a line of this level.
pub(crate) struct Line(Level);

impl<'a> MakeWriter<'a> for Logs {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Level::ERROR)
    }

    fn make_writer_for(&'a self, line: &Metadata<'_>) -> Line {
        Line(*line.level())
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for (_, log) in LOGS.lock().unwrap().iter().filter(|(level, _)| self.0 <= *level) {
            log.0.lock().unwrap().extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn no_log_of_the_driver_contains_an_owner_token() {
    let (log, reading) = Log::read(LevelFilter::TRACE);
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let (theirs, id) = (store.client().await, LockId::new("x").unwrap());
    let mut owners = Vec::new();
    let mut note = |lease: &Lease| owners.push(lease.owner().reveal().to_owned());
    // Taken, renewed, moved, released and released again.
    let lease = ours.acquire(&id, TTL).await.unwrap();
    let lease = ours.renew(&lease, TTL).await.unwrap();
    note(&lease);
    let text: Lease = lease.to_secret_text().parse().unwrap();
    let moved = theirs.renew(&text, TTL).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", TTL, Retry::within(TTL)).await.unwrap() }
    });
    in_queue(&store, 1).await;
    ours.inspect(&id).await.unwrap();
    theirs.release(&moved).await.unwrap();
    assert!(theirs.release(&moved).await.is_err());
    // Taken by the first waiter; then deleted by an operator.
    let taken = waiter.await.unwrap();
    note(&taken);
    store.admin.delete(&format!("{}/x@lock", store.root()), None).await.unwrap();
    let taken = ours.renew(&taken, TTL).await.unwrap();
    ours.release(&taken).await.unwrap();
    // Taken by a request whose reply was lost.
    proxy.cut_after_request();
    let lease = ours.acquire(&id, TTL).await.unwrap();
    assert!(!proxy.is_armed());
    note(&lease);
    ours.release(&lease).await.unwrap();
    drop(reading);
    let log = log.text();
    assert!(log.contains("sending request") && log.contains("x@lock"), "nothing was logged");
    for (n, owner) in owners.iter().enumerate() {
        let line = log.lines().find(|line| line.contains(&**owner));
        let found = line.map(|line| line.replace(&**owner, "<owner>"));
        assert!(found.is_none(), "owner {n} is in the log: {found:?}");
    }
}
