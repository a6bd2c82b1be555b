//! The first in line tries again and again: what undoes one of its tries must not meet another.

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

/// A try is cut off while the lock is held, and what may have come of it is deleted in the
/// background for a while. The same waiter gets the lock in that while, and keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn the_undoing_of_a_try_leaves_the_next_one_s_grant_alone() {
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
        // Of each two requests of the first in line, one is its try.
        proxy.cut_after_request();
        while proxy.is_armed() {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_millis(round % 4 * 15)).await;
        held.release().await.unwrap();
        let guard = timeout(TTL, waiter).await.expect("the line does not move").unwrap();
        sleep(Duration::from_millis(400)).await;
        assert!(store.owner(&id).await.is_some(), "round {round}: the grant was deleted");
        guard.release().await.unwrap();
    }
}

/// The first in line is cut off at its turn, before or after the servers had its request: its place
/// is not lost to who stands behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn who_is_cut_off_at_its_turn_is_served_before_the_next_one() {
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
