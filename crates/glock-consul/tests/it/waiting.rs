//! What many waiters cost while they wait, and at a hand-over.

use std::time::Duration;

use glock_consul::{ConsulLock, Lock, LockExt, Retry};
use glock_testing::{Proxy, process::eventually};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{LONG, Store, id};

const IDLE: Duration = Duration::from_secs(10);
/// Seven or eight heartbeats, two replies of the query for locks and one of that for turns, and two renewals of the
/// session of the places.
const REQUESTS_MAX: u64 = 8 + 2 + 1 + 2;
/// A busy machine takes most of a minute to make a thousand waiters and their sessions.
const QUIET_MAX: Duration = Duration::from_mins(4);
const PATIENT: Retry = Retry::within(Duration::from_mins(5));
const HELD_MEANWHILE: Duration = Duration::from_mins(10);

/// `waiters` tasks wait for `locks` locks that others hold. They send next to nothing in `IDLE`, and all
/// are served in the end.
async fn idle(waiters: usize, locks: usize, connections_max: usize) {
    let store = Store::open().await;
    let proxy = Proxy::start(store.admin.addr).await.unwrap();
    // With the default shortest TTL, by which the pauses are chosen.
    let ours = ConsulLock::new(store.admin.client(proxy.addr()).build().unwrap());
    let (ours, theirs) = (ours.with_config(store.config()).unwrap(), store.lock());
    let mut leases = Vec::new();
    for n in 0..locks {
        leases.push(theirs.acquire(&id(&format!("x{n}")), HELD_MEANWHILE).await.unwrap());
    }
    let mut tasks = JoinSet::new();
    for n in 0..waiters {
        let (ours, name) = (ours.clone(), format!("x{}", n % locks));
        tasks.spawn(async move {
            let lease = ours.acquire_with_retry(&name, LONG, PATIENT).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    // All have tried; the sessions of their tries are destroyed, their connections closed.
    let began = Instant::now();
    loop {
        let before = proxy.requests();
        sleep(Duration::from_secs(2)).await;
        let (sent, connections) = (proxy.requests() - before, proxy.connections());
        if connections <= connections_max && sent <= 2 {
            break;
        }
        let seen = format!("{sent} requests in 2 s, {connections} connections");
        assert!(began.elapsed() < QUIET_MAX, "they are not quiet: {seen}");
    }
    let before = proxy.requests();
    sleep(IDLE).await;
    let sent = proxy.requests() - before;
    println!(
        "{waiters} waiters on {locks} locks: {sent} requests in {IDLE:?}, {} connections",
        proxy.connections()
    );
    assert!(sent <= REQUESTS_MAX, "{sent} requests in {IDLE:?}");
    assert!(proxy.connections() <= connections_max, "{} connections", proxy.connections());
    for lease in leases {
        theirs.release(&lease).await.unwrap();
    }
    let all = timeout(Duration::from_mins(2), tasks.join_all()).await;
    all.expect("not every waiter was served");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn many_waiters_on_one_lock_send_next_to_nothing() {
    // One for commands, one to see the end of the hold, and one to see whose turn it is.
    idle(200, 1, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn many_waiters_on_as_many_locks_send_next_to_nothing() {
    // Each is the first in its queue.
    idle(200, 200, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: 60 s, with a thousand waiters"]
async fn a_thousand_waiters_send_next_to_nothing() {
    idle(1_000, 1, 3).await;
    idle(1_000, 1_000, 2).await;
}

/// A burst of reads opens a connection for each. They are closed without another request, but for one.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn connections_of_a_burst_are_closed() {
    let store = Store::open().await;
    let proxy = Proxy::start(store.admin.addr).await.unwrap();
    let lock = store.admin.lock(store.admin.client(proxy.addr()), store.config());
    let mut looks = JoinSet::new();
    proxy.delay(Duration::from_millis(20));
    for _ in 0..20 {
        let lock = lock.clone();
        looks.spawn(async move { lock.inspect(&id("x")).await.unwrap() });
    }
    looks.join_all().await;
    assert_eq!(proxy.connections(), 20);
    let before = proxy.requests();
    eventually("one is left", Duration::from_secs(5), async || proxy.connections() == 1).await;
    assert_eq!(proxy.requests(), before);
    assert!(lock.inspect(&id("x")).await.unwrap().is_none());
    assert_eq!(proxy.accepted(), 20, "it is used again");
}

/// Requests a hand-over while `waiters` tasks of one client take a lock in turns.
async fn requests_a_hand_over(waiters: u32) -> f64 {
    const TURNS: u32 = 4;
    let store = Store::open().await;
    let proxy = Proxy::start(store.admin.addr).await.unwrap();
    let ours: ConsulLock = store.admin.lock(store.admin.client(proxy.addr()), store.config());
    let held = store.lock();
    let lease = held.acquire(&id("x"), LONG).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..waiters {
        let ours = ours.clone();
        tasks.spawn(async move {
            for _ in 0..TURNS {
                let lease = ours.acquire_with_retry("x", LONG, PATIENT).await.unwrap();
                sleep(Duration::from_millis(5)).await;
                ours.release(&lease).await.unwrap();
            }
        });
    }
    // All are in the queue, and the first is asleep.
    let mut before = 0;
    while proxy.requests() != before || before == 0 {
        before = proxy.requests();
        sleep(Duration::from_millis(300)).await;
    }
    held.release(&lease).await.unwrap();
    tasks.join_all().await;
    let sent = u32::try_from(proxy.requests() - before).unwrap();
    f64::from(sent) / f64::from(waiters * TURNS)
}

/// A waiter joins, and a release acquires for it, however many wait. A reply to the blocking query, a heartbeat or
/// a renewal of the session may fall into it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_hand_over_costs_the_same_with_many_waiters() {
    let (few, many) = (requests_a_hand_over(4).await, requests_a_hand_over(64).await);
    println!("requests a hand-over: {few:.2} with 4 waiters, {many:.2} with 64");
    assert!(few <= 3.0 && many <= 3.0, "{few:.2} with 4 waiters, {many:.2} with 64");
    assert!(many <= few + 0.5, "{few:.2} with 4 waiters, {many:.2} with 64");
}

/// A release has taken the lock for a waiter of its own client, whose program does not poll it any more.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_lock_that_was_taken_for_a_waiter_that_is_not_polled_passes_on() {
    let store = Store::open().await;
    let (ours, theirs) = (store.lock(), store.lock());
    let held = theirs.acquire(&id("x"), LONG).await.unwrap();
    let joined = Duration::from_secs(1);
    let mut first = Box::pin(ours.acquire_with_retry("x", LONG, PATIENT));
    assert!(timeout(joined, &mut first).await.is_err());
    let mut unpolled = Box::pin(ours.acquire_with_retry("x", LONG, PATIENT));
    assert!(timeout(joined, &mut unpolled).await.is_err());
    let behind = tokio::spawn({
        let theirs = theirs.clone();
        async move { theirs.acquire_with_retry("x", LONG, PATIENT).await }
    });
    sleep(joined).await;
    theirs.release(&held).await.unwrap();
    let lease = first.await.unwrap();
    ours.release(&lease).await.unwrap();
    let lease = timeout(LONG / 2, behind).await.expect("it holds up the queue").unwrap().unwrap();
    theirs.release(&lease).await.unwrap();
    let lease = timeout(LONG / 2, unpolled).await.expect("it is not served").unwrap();
    ours.release(&lease).await.unwrap();
}
