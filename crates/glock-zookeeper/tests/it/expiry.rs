//! All of a client's locks are bound to one session: its end, its silence, and a client that stands still.

use std::time::Duration;

use glock_testing::{
    Fixture, Networked, Proxy, fresh_namespace,
    process::{Child, role, tell},
};
use glock_zookeeper::{Lock, LockExt, LockId, LossReason, Retry, ZooKeeperLock};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    admin::in_queue,
    fixture::{ZooKeeper, connector},
};

const SESSION: Duration = Duration::from_secs(2);
/// For a test that must not lose its session where the machine is busy.
const WIDE: Duration = Duration::from_secs(4);
/// Far longer than the session's time-out.
const LONG: Duration = Duration::from_mins(1);
const PATIENT: Retry = Retry::within(LONG);

/// A proxy stalls, so that the servers end the session: each guard is lost before another client is
/// granted the lock, and the same client goes on with a new session.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_lost_session_ends_all_its_locks_in_time_and_another_is_opened() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let (ours, theirs) = (ours.with_session_timeout(SESSION).unwrap(), store.client().await);
    let mut guards = Vec::new();
    for name in ["a", "b", "c"] {
        guards.push(ours.hold(name, LONG, Retry::NEVER).await.unwrap());
    }
    sleep(SESSION * 2).await;
    assert!(guards.iter().all(glock_zookeeper::Guard::is_valid), "the session is kept alive");
    let waiter = tokio::spawn({
        let theirs = theirs.clone();
        async move { (theirs.hold("a", LONG, PATIENT).await.unwrap(), Instant::now()) }
    });
    sleep(SESSION / 4).await;
    proxy.stall();
    let stalled = Instant::now();
    for guard in &guards {
        let reason = timeout(SESSION, guard.lost()).await.expect("a loss was not reported");
        assert_eq!(reason, LossReason::Expired);
    }
    let lost_at = Instant::now();
    let (taken, taken_at) = waiter.await.unwrap();
    assert!(lost_at < taken_at, "the lock had passed on before");
    assert!(taken_at - stalled < SESSION * 2, "passed on after {:?}", taken_at - stalled);
    sleep(SESSION).await;
    proxy.pass();
    let again = timeout(LONG, ours.hold("d", LONG, PATIENT)).await.expect("no new session");
    again.unwrap().release().await.unwrap();
    assert!(guards.pop().unwrap().release().await.is_err());
    assert!(taken.is_valid(), "the old session's guard has left it alone");
    taken.release().await.unwrap();
}

/// A TTL above the session's time-out is kept for as long as the client lives; so is one below it.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_ttl_above_or_below_the_sessions_time_out_is_kept() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let ours = store.client().await.with_session_timeout(WIDE).unwrap();
    let theirs = store.client().await;
    for client in [&ours, &theirs] {
        client.hold("warm", LONG, Retry::NEVER).await.unwrap().release().await.unwrap();
    }
    let acquired_at = Instant::now();
    let long = ours.acquire(&LockId::new("long").unwrap(), WIDE * 3).await.unwrap();
    let short = ours.acquire(&LockId::new("short").unwrap(), WIDE / 8).await.unwrap();
    let taken = theirs.acquire_with_retry("short", LONG, PATIENT).await.unwrap();
    assert!(short.is_expired());
    assert!(acquired_at.elapsed() < WIDE / 2, "after {:?}", acquired_at.elapsed());
    theirs.release(&taken).await.unwrap();
    while acquired_at.elapsed() < WIDE * 5 / 2 {
        assert!(!long.is_expired());
        sleep(WIDE / 10).await;
    }
    let taken = theirs.acquire_with_retry("long", LONG, PATIENT).await.unwrap();
    assert!(acquired_at.elapsed() >= WIDE * 3 && long.is_expired());
    assert!(acquired_at.elapsed() < WIDE * 4, "after {:?}", acquired_at.elapsed());
    theirs.release(&taken).await.unwrap();
}

/// It goes on in another session.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_waiter_whose_session_ends_joins_the_queue_again() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let (ours, theirs) = (ours.with_session_timeout(SESSION).unwrap(), store.client().await);
    let held = theirs.hold("x", LONG, Retry::NEVER).await.unwrap();
    let waiter = tokio::spawn(async move { ours.hold("x", LONG, PATIENT).await });
    in_queue(&store, 1).await;
    proxy.stall();
    in_queue(&store, 0).await;
    proxy.pass();
    in_queue(&store, 1).await;
    held.release().await.unwrap();
    let guard = timeout(LONG, waiter).await.expect("the queue does not move").unwrap();
    guard.unwrap().release().await.unwrap();
}

/// The last client is dropped with a lease that runs: it keeps its time, and then the session goes.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_lease_outlives_the_lock_value_that_granted_it() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let lease = ours.acquire(&LockId::new("x").unwrap(), Duration::from_secs(2)).await.unwrap();
    drop(ours);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(store.live().await, 1);
    assert!(!lease.is_expired());
    glock_testing::process::eventually("the session is gone", LONG, async || {
        proxy.connections() == 0
    })
    .await;
    assert_eq!(store.live().await, 0);
}

const HOLDER: &str = "expiry::holder_that_stands_still";
const NAMESPACE: &str = "GLOCK_TESTING_NAMESPACE";

/// A process that stands still for longer than its session lives loses the lock to a waiter; at the
/// first look after it goes on, its guard says so, although its TTL is far from over.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_process_that_stood_still_sees_its_loss_at_the_first_look() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let mut child = Child::start(HOLDER, "holder", &[(NAMESPACE, &store.namespace)]).unwrap();
    assert_eq!(child.line().await.unwrap().as_deref(), Some("held"));
    let waiter = tokio::spawn({
        let ours = store.client().await;
        async move { ours.hold("x", LONG, PATIENT).await.unwrap() }
    });
    sleep(SESSION * 2).await;
    assert!(!waiter.is_finished());
    child.pause().await.unwrap();
    let paused = Instant::now();
    let guard = waiter.await.unwrap();
    assert!(paused.elapsed() < SESSION * 2, "passed on after {:?}", paused.elapsed());
    child.resume().await.unwrap();
    assert_eq!(child.line().await.unwrap().as_deref(), Some("lost"));
    sleep(SESSION).await;
    assert!(guard.is_valid());
    guard.release().await.unwrap();
}

/// The other process: holds, and looks all the time. A look that comes late was held up by the pause.
#[test]
#[ignore = "run by a case in a process of its own"]
fn holder_that_stands_still() {
    if role().as_deref() != Some("holder") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let namespace = std::env::var(NAMESPACE).unwrap();
    let guard = runtime.block_on(async {
        let store = ZooKeeper::open(namespace).await;
        let lock = ZooKeeperLock::new(connector(), &*store.cluster);
        let lock = lock.with_session_timeout(SESSION).unwrap();
        let lock = lock.with_config(store.config()).unwrap();
        lock.hold("x", LONG, Retry::NEVER).await.unwrap()
    });
    tell("held").unwrap();
    let mut last = Instant::now();
    loop {
        let valid = guard.is_valid();
        if last.elapsed() > SESSION / 2 {
            tell(if valid { "still held" } else { "lost" }).unwrap();
            return;
        }
        last = Instant::now();
        std::thread::sleep(Duration::from_millis(1));
    }
}
