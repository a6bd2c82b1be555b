//! Failed tries, dropped futures and killed holders leave no node behind.

use std::time::Duration;

use glock_testing::{
    Fixture, Networked, Proxy, fresh_namespace,
    process::{Child, role, settles, tell},
};
use glock_zookeeper::{Guard, Lock, LockExt, LockId, Retry, ZooKeeperLock};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::{
    admin::watched,
    fixture::{SESSION_TIMEOUT, ZooKeeper, connector},
};

const TTL: Duration = Duration::from_mins(2);
/// The servers delete a queue that was left empty once a minute, unless told otherwise.
const SWEPT: Duration = Duration::from_mins(3);

/// Nodes below the namespace, waiters included.
async fn nodes(store: &ZooKeeper) -> usize {
    let mut count = 0;
    for name in store.children(&store.root()).await {
        count += 1 + store.children(&format!("{}/{name}", store.root())).await.len();
    }
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn failed_tries_and_dropped_futures_leave_no_node() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let (ours, theirs) = (store.client().await, store.client().await);
    let held = theirs.hold("x", TTL, Retry::NEVER).await.unwrap();
    let id = LockId::new("x").unwrap();
    for _ in 0..1_000 {
        assert!(ours.acquire(&id, TTL).await.is_err());
    }
    assert_eq!(nodes(&store).await, 2, "the hold itself");
    let mut tasks = JoinSet::new();
    for n in 0..1_000_u64 {
        let ours = ours.clone();
        tasks.spawn(async move {
            let name = if n % 2 == 0 { "x".to_owned() } else { format!("y{}", n % 7) };
            let patience = Duration::from_micros(n * 370 % 200_000);
            let _ = timeout(patience, ours.hold(&name, TTL, Retry::within(TTL))).await;
        });
    }
    tasks.join_all().await;
    settles("nodes", SWEPT, 2, async || nodes(&store).await).await;
    settles("watches", Duration::from_secs(20), 0, async || watched(&store).await.len()).await;
    held.release().await.unwrap();
    settles("nodes", SWEPT, 0, async || nodes(&store).await).await;
}

/// The connection is cut around the moment at which a waiter node is created: no node without a
/// waiter is left, and the queue moves on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_waiter_node_whose_creation_was_cut_is_not_left() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let theirs = store.client().await;
    let warm = ours.hold("warm", TTL, Retry::NEVER).await.unwrap();
    warm.release().await.unwrap();
    for round in 0..40_u64 {
        // The call of the last round's waiter is carried to its end: its node may be in the queue for
        // a moment more.
        let held = theirs.hold("x", TTL, Retry::within(Duration::from_secs(20))).await.unwrap();
        let waiter = tokio::spawn({
            let ours = ours.clone();
            async move { ours.hold("x", TTL, Retry::within(TTL)).await }
        });
        sleep(Duration::from_micros(round * 150)).await;
        proxy.cut();
        if round % 2 == 0 {
            waiter.abort();
            settles("nodes", SWEPT, 2, async || nodes(&store).await).await;
            held.release().await.unwrap();
        } else {
            sleep(Duration::from_millis(100)).await;
            held.release().await.unwrap();
            let guard = timeout(Duration::from_secs(20), waiter).await;
            guard.expect("the queue does not move").unwrap().unwrap().release().await.unwrap();
        }
        settles("nodes", SWEPT, 0, async || nodes(&store).await).await;
    }
}

const HOLDER: &str = "leaks::holder_of_many";
const NAMESPACE: &str = "GLOCK_TESTING_NAMESPACE";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn killed_holders_leave_nothing_once_their_sessions_are_over() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    for _ in 0..5 {
        let mut child = Child::start(HOLDER, "many", &[(NAMESPACE, &store.namespace)]).unwrap();
        assert_eq!(child.line().await.unwrap().as_deref(), Some("held"));
        child.kill_9().await.unwrap();
    }
    assert!(nodes(&store).await >= 80, "the last one's are still there");
    let over = SESSION_TIMEOUT * 2;
    settles("nodes", over, 0, async || nodes(&store).await).await;
}

/// The other process: holds forty locks, and dies with them.
#[test]
#[ignore = "run by a case in a process of its own"]
fn holder_of_many() {
    if role().as_deref() != Some("many") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let namespace = std::env::var(NAMESPACE).unwrap();
    runtime.block_on(async {
        let store = ZooKeeper::open(namespace).await;
        let lock = ZooKeeperLock::new(connector(), &*store.cluster);
        let lock = lock.with_session_timeout(SESSION_TIMEOUT).unwrap();
        let lock = lock.with_config(store.config()).unwrap();
        let mut guards: Vec<Guard> = Vec::new();
        for n in 0..40 {
            let name = format!("{}-{n}", std::process::id());
            guards.push(lock.hold(&name, TTL, Retry::NEVER).await.unwrap());
        }
        tell("held").unwrap();
        std::future::pending::<()>().await;
    });
}
