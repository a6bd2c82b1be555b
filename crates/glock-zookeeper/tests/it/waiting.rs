//! The servers' queue: first come, first served, over all clients, at a cost that does not grow.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_testing::{
    Fixture, Networked, Proxy, fresh_namespace,
    process::{eventually, settles},
};
use glock_zookeeper::{Lock, LockError, LockExt, LockId, Retry};
use tokio::{task::JoinSet, time::sleep};

use crate::support::{
    admin::{first_sleeps, in_queue},
    fixture::ZooKeeper,
};

const TTL: Duration = Duration::from_mins(2);
const PATIENT: Retry = Retry::within(TTL);
const SOON: Duration = Duration::from_secs(20);

/// Waits until no request was sent for a while: all waiters sleep, far longer than that.
async fn quiet(proxy: &Proxy) {
    let mut sent = 0;
    eventually("all sleep", SOON, async || {
        sleep(Duration::from_millis(500)).await;
        std::mem::replace(&mut sent, proxy.requests()) == proxy.requests()
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn waiters_of_all_clients_are_served_in_the_order_in_which_they_came() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(store.client().await);
    }
    let held = clients[0].hold("x", TTL, Retry::NEVER).await.unwrap();
    let (served, mut tasks) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
    for n in 0..16 {
        let (lock, served) = (clients[n % 4].clone(), Arc::clone(&served));
        tasks.spawn(async move {
            let guard = lock.hold("x", TTL, PATIENT).await.unwrap();
            served.lock().unwrap().push(n);
            guard.release().await.unwrap();
        });
        in_queue(&store, n + 1).await;
    }
    held.release().await.unwrap();
    tasks.join_all().await;
    assert_eq!(*served.lock().unwrap(), (0..16).collect::<Vec<_>>());
    assert_eq!(store.children(&store.root()).await.len(), 0, "nothing is left of the queue");
}

/// Not even a try right after the release gets in before the waiters.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn no_try_overtakes_the_queue() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let (ours, theirs) = (store.client().await, store.client().await);
    let id = LockId::new("x").unwrap();
    for round in 0..30 {
        let lease = ours.acquire(&id, TTL).await.unwrap();
        let waiter = tokio::spawn({
            let theirs = theirs.clone();
            async move { theirs.acquire_with_retry("x", TTL, PATIENT).await.unwrap() }
        });
        in_queue(&store, 1).await;
        ours.release(&lease).await.unwrap();
        let barging = ours.acquire(&id, TTL).await;
        assert!(matches!(barging, Err(LockError::Held { .. })), "round {round}: {barging:?}");
        theirs.release(&waiter.await.unwrap()).await.unwrap();
    }
}

/// Requests and bytes that a hand-over takes, with so many waiters. Requests that overlap count as
/// one, their bytes do not.
async fn costs_a_hand_over(waiters: usize) -> (f64, f64) {
    const HAND_OVERS: usize = 20;
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let theirs = store.client().await;
    let held = theirs.hold("x", TTL, Retry::NEVER).await.unwrap();
    let (pass, passes) = tokio::sync::mpsc::channel::<()>(1);
    let (passes, mut tasks) = (Arc::new(tokio::sync::Mutex::new(passes)), JoinSet::new());
    let done = Arc::new(tokio::sync::Semaphore::new(0));
    for _ in 0..waiters + HAND_OVERS {
        let (ours, passes, done) = (ours.clone(), Arc::clone(&passes), Arc::clone(&done));
        tasks.spawn(async move {
            let lease = ours.acquire_with_retry("x", TTL, PATIENT).await.unwrap();
            done.add_permits(1);
            passes.lock().await.recv().await;
            ours.release(&lease).await.unwrap();
        });
    }
    in_queue(&store, waiters + HAND_OVERS).await;
    quiet(&proxy).await;
    held.release().await.unwrap();
    done.acquire().await.unwrap().forget();
    // The new holder has been woken: this watch is the next waiter's, as at the end.
    first_sleeps(&store, "x").await;
    let before = (proxy.requests(), proxy.bytes_up());
    for _ in 0..HAND_OVERS - 1 {
        pass.send(()).await.unwrap();
        done.acquire().await.unwrap().forget();
    }
    first_sleeps(&store, "x").await;
    let after = (proxy.requests(), proxy.bytes_up());
    drop(pass);
    tasks.join_all().await;
    let each = |count: u64| f64::from(u32::try_from(count).unwrap()) / 19.0;
    (each(after.0 - before.0), each(after.1 - before.1))
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_hand_over_costs_the_same_however_many_wait() {
    let ((few, up), (many, up_many)) = (costs_a_hand_over(1).await, costs_a_hand_over(64).await);
    println!("{few:.1} requests a hand-over with 1 waiter, {many:.1} with 64");
    // Release, take; and the next waiter watches the lock. A ping or two may fall into it. There are fewer where some
    // happen to overlap, so the two are not compared: the bytes are.
    assert!(few < 4.5 && many < 4.5, "{few:.1} with 1 waiter, {many:.1} with 64");
    assert!(up_many < up + 50.0, "{up:.0} bytes with 1 waiter, {up_many:.0} with 64");
}

/// Bytes that the servers send for each of so many waiters of one client, from when they join until all were served.
async fn bytes_a_waiter(waiters: u32) -> f64 {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let theirs = store.client().await;
    let held = theirs.hold("x", TTL, Retry::NEVER).await.unwrap();
    let (before, mut tasks) = (proxy.bytes_down(), JoinSet::new());
    for _ in 0..waiters {
        let ours = ours.clone();
        tasks.spawn(async move {
            let lease = ours.acquire_with_retry("x", TTL, PATIENT).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    in_queue(&store, waiters as usize).await;
    held.release().await.unwrap();
    tasks.join_all().await;
    let received = u32::try_from(proxy.bytes_down() - before).unwrap();
    f64::from(received) / f64::from(waiters)
}

/// None of them reads the whole queue, which would be a few kilobytes each with 128 of them.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn joining_the_queue_costs_the_same_however_many_wait() {
    let (few, many) = (bytes_a_waiter(16).await, bytes_a_waiter(128).await);
    println!("{few:.0} bytes a waiter with 16 of them, {many:.0} with 128");
    assert!(many < few * 1.5, "{few:.0} bytes a waiter with 16 of them, {many:.0} with 128");
}

/// Many idle waiters of one process: one connection, and the driver's pings. It sends one at the first
/// quarter of a second that is three quarters after the last: every second, unless its timer is late.
async fn send_next_to_nothing(waiters: usize) {
    const SECONDS: u64 = 10;
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let theirs = store.client().await;
    let held = theirs.hold("x", TTL, Retry::NEVER).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..waiters {
        let ours = ours.clone();
        tasks.spawn(async move {
            let lease = ours.acquire_with_retry("x", TTL, PATIENT).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    in_queue(&store, waiters).await;
    first_sleeps(&store, "x").await;
    // On a busy machine, the last of them are still at it when the first sleeps.
    settles("requests in 10 s", TTL / 2, SECONDS * 4 / 3 + 1, async || {
        let before = proxy.requests();
        sleep(Duration::from_secs(SECONDS)).await;
        proxy.requests() - before
    })
    .await;
    assert_eq!(proxy.connections(), 1);
    held.release().await.unwrap();
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn many_idle_waiters_send_next_to_nothing() {
    send_next_to_nothing(200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: 60 s, with a thousand waiters"]
async fn a_thousand_idle_waiters_send_next_to_nothing() {
    send_next_to_nothing(1_000).await;
}

/// The driver cannot set up more than 128 KiB of watches again: of many waiters with a long
/// id, one watches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn many_waiters_outlive_a_lost_connection() {
    // Their nodes' paths take more than that.
    const WAITERS: usize = 600;
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    // Longer than a busy machine keeps the server from replying.
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let ours = ours.with_session_timeout(Duration::from_secs(30)).unwrap();
    let (theirs, id) = (store.client().await, LockId::new("x".repeat(250)).unwrap());
    let held = theirs.acquire(&id, TTL).await.unwrap();
    let kept = ours.hold("kept", TTL, Retry::NEVER).await.unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..WAITERS {
        let (ours, id) = (ours.clone(), id.clone());
        tasks.spawn(async move {
            let lease = ours.acquire_with_retry(&id, TTL, PATIENT).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    let queue = format!("{}/{id}@queue", store.root());
    eventually("all are in the queue", Duration::from_mins(1), async || {
        store.children(&queue).await.len() == WAITERS
    })
    .await;
    first_sleeps(&store, id.as_str()).await;
    quiet(&proxy).await;
    let accepted = proxy.accepted();
    proxy.cut();
    eventually("it is back", SOON, async || proxy.accepted() > accepted).await;
    first_sleeps(&store, id.as_str()).await;
    theirs.release(&held).await.unwrap();
    let served = tokio::time::timeout(Duration::from_mins(1), tasks.join_all()).await;
    assert!(served.is_ok(), "the queue does not move");
    assert!(kept.is_valid(), "the session was lost");
    kept.release().await.unwrap();
}

/// The servers do not delete it, so waiters that leave together must.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_persistent_queue_goes_with_its_last_waiters() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(store.client().await.with_persistent_queues());
    }
    let held = clients[0].hold("x", TTL, Retry::NEVER).await.unwrap();
    for _ in 0..20 {
        let mut tasks = JoinSet::new();
        for lock in &clients {
            let lock = lock.clone();
            tasks.spawn(async move { lock.hold("x", TTL, PATIENT).await });
        }
        in_queue(&store, 4).await;
        tasks.shutdown().await;
        settles("nodes", Duration::from_secs(10), 2, async || {
            store.children(&store.root()).await.len()
        })
        .await;
    }
    held.release().await.unwrap();
}
