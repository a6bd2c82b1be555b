//! What is left in Consul after failures: no session, no key.

use std::time::Duration;

use glock_consul::{Lock, LockError, LockExt, Retry};
use glock_testing::process::{Child, eventually, role, tell};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::{LONG, Store, id};

const ROLE: &str = "consul holder";
const NAMESPACE: &str = "GLOCK_TESTING_NAMESPACE";
const GONE: Duration = Duration::from_secs(30);

async fn nothing_is_left(store: &Store) {
    eventually("no session is left", GONE, async || store.sessions().await.is_empty()).await;
    assert_eq!(store.held().await, 0);
    let path = format!("kv/{}/?keys", store.namespace);
    let keys = async || store.admin.json("GET", &path, "").await.as_array().map(Vec::len);
    eventually("no key is left", GONE, async || keys().await == Some(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_thousand_failed_tries_leave_nothing() {
    let store = Store::open().await;
    let (ours, theirs) = (store.lock(), store.lock());
    let held = theirs.acquire(&id("x"), LONG).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let ours = ours.clone();
        tasks.spawn(async move {
            for _ in 0..125 {
                let refused = ours.acquire(&id("x"), LONG).await;
                assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
            }
        });
    }
    tasks.join_all().await;
    assert!(store.sessions().await.len() <= 1 + 8, "a try takes a session and leaves it");
    theirs.release(&held).await.unwrap();
    drop((ours, theirs));
    nothing_is_left(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_thousand_dropped_futures_leave_nothing() {
    let store = Store::open().await;
    let lock = store.lock();
    let mut tasks = JoinSet::new();
    for task in 0..8_u64 {
        let lock = lock.clone();
        tasks.spawn(async move {
            for turn in 0..125_u64 {
                let random = (task * 125 + turn).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                let name = format!("x{}", random % 4);
                let hold = lock.hold(&name, LONG, Retry::FOREVER);
                let _ = timeout(Duration::from_micros(random % 4_000), hold).await;
            }
        });
    }
    tasks.join_all().await;
    drop(lock);
    nothing_is_left(&store).await;
}

/// Ten processes at a time hold 20 locks each and are killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn two_hundred_killed_holders_leave_nothing() {
    let store = Store::open().await;
    let mut children = Vec::new();
    for n in 0..10 {
        let variables = [(NAMESPACE, &*store.namespace), ("GLOCK_TESTING_NAME", &*format!("{n}"))];
        children.push(Child::start("leaks::holder_process", ROLE, &variables).unwrap());
    }
    for child in &mut children {
        let line = timeout(LONG, child.line()).await.expect("the other process is silent");
        assert_eq!(line.unwrap().as_deref(), Some("20"));
    }
    // Each has taken 20. A busy machine may have lost some of them since.
    assert!(store.held().await > 0, "no process holds a lock");
    for child in &mut children {
        child.kill_9().await.unwrap();
    }
    nothing_is_left(&store).await;
}

/// Not a test: what `two_hundred_killed_holders_leave_nothing` runs in other processes.
#[tokio::test]
#[ignore = "run by a test in a process of its own"]
async fn holder_process() {
    if role().as_deref() != Some(ROLE) {
        return;
    }
    let mut store = Store::open().await;
    store.namespace = std::env::var(NAMESPACE).unwrap();
    let name = std::env::var("GLOCK_TESTING_NAME").unwrap();
    let lock = store.lock();
    let mut guards = Vec::new();
    for n in 0..20 {
        let ttl = store.admin.ttl_min * 2;
        guards.push(lock.hold(format!("x{name}.{n}"), ttl, Retry::NEVER).await.unwrap());
    }
    tell(&guards.len().to_string()).unwrap();
    sleep(LONG * 2).await;
}
