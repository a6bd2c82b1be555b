//! The first waiter's requests are cut off: the undo of one must not meet another, and the order stays.

use std::time::Duration;

use glock_testing::{Fixture, Networked, Proxy, fresh_namespace, process::eventually};
use glock_zookeeper::{LockExt, LockId, Retry, ZooKeeperLock};
use tokio::time::{sleep, timeout};

use crate::support::{
    admin::{in_queue, watched},
    fixture::ZooKeeper,
};

const TTL: Duration = Duration::from_mins(2);
const SOON: Duration = Duration::from_secs(20);

/// A try is cut off while the lock is held, and the client looks for its hold for a while, to delete
/// it. The same waiter is granted the lock meanwhile, and keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn the_undo_of_a_try_does_not_touch_the_next_ones_grant() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let (theirs, id) = (store.client().await, LockId::new("x").unwrap());
    let often = Retry::within(TTL).with_pause_max(Duration::from_millis(40)).with_jitter_percent(0);
    for round in 0..24_u64 {
        let held = theirs.hold("x", TTL, Retry::NEVER).await.unwrap();
        let waiter = tokio::spawn({
            let ours = ours.clone();
            async move { ours.hold("x", TTL, often).await.unwrap() }
        });
        in_queue(&store, 1).await;
        sleep(Duration::from_millis(30 + round)).await;
        // Of each two requests of the first waiter, one is its try.
        proxy.cut_after_request();
        while proxy.is_armed() {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(round % 4 * 15)).await;
        held.release().await.unwrap();
        let guard = timeout(TTL, waiter).await.expect("the queue does not move").unwrap();
        sleep(Duration::from_millis(400)).await;
        assert!(store.owner(&id).await.is_some(), "round {round}: the grant was deleted");
        guard.release().await.unwrap();
    }
}

/// The first waiter is cut off when the lock is released, before or after the servers have its
/// request: it is not overtaken by the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_first_waiter_that_is_cut_off_is_served_before_the_next_one() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let theirs = store.client().await;
    let wait = |lock: &ZooKeeperLock| {
        let lock = lock.clone();
        tokio::spawn(async move { lock.hold("x", TTL, Retry::within(TTL)).await.unwrap() })
    };
    for round in 0..12 {
        let held = theirs.hold("x", TTL, Retry::NEVER).await.unwrap();
        let first = wait(&ours);
        in_queue(&store, 1).await;
        let second = wait(&theirs);
        in_queue(&store, 2).await;
        eventually("both sleep", SOON, async || watched(&store).await.len() == 2).await;
        if round % 2 == 0 {
            proxy.cut_before_request();
        } else {
            proxy.cut_after_request();
        }
        held.release().await.unwrap();
        let guard = timeout(SOON, first).await.expect("the next one was served").unwrap();
        assert!(!proxy.is_armed());
        guard.release().await.unwrap();
        second.await.unwrap().release().await.unwrap();
    }
}
