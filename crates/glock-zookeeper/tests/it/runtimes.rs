//! One lock value used on two runtimes, of which one ends.

use std::time::Duration;

use glock_testing::{Fixture, fresh_namespace, process::eventually};
use glock_zookeeper::{LockExt, Retry, ZooKeeperLock};
use tokio::{runtime::Runtime, time::timeout};

use crate::support::{
    admin::{first_sleeps, in_queue},
    fixture::{SESSION_TIMEOUT, ZooKeeper},
};

const TTL: Duration = Duration::from_mins(2);
const SOON: Duration = Duration::from_secs(20);

/// Opens the lock's session on the runtime that this runs on.
async fn warm(lock: &ZooKeeperLock) {
    lock.hold("warm", TTL, Retry::NEVER).await.unwrap().release().await.unwrap();
}

/// Its session lives on another runtime, and would keep it.
#[test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
fn a_waiter_node_is_deleted_after_its_waiters_runtime_has_ended() {
    let (main, other) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let (store, ours, held) = main.block_on(async {
        let store = ZooKeeper::open(fresh_namespace()).await;
        let (ours, theirs) = (store.client().await, store.client().await);
        warm(&ours).await;
        let held = theirs.hold("x", TTL, Retry::NEVER).await.unwrap();
        (store, ours, held)
    });
    other.spawn({
        let ours = ours.clone();
        async move { ours.hold("x", TTL, Retry::within(TTL)).await }
    });
    main.block_on(in_queue(&store, 1));
    other.shutdown_timeout(SOON);
    main.block_on(async {
        let queue = format!("{}/x@queue", store.root());
        eventually("the node is gone", SESSION_TIMEOUT * 2, async || {
            store.children(&queue).await.is_empty()
        })
        .await;
        warm(&ours).await;
        held.release().await.unwrap();
    });
}

/// The session's runtime ends under a waiter of another one: it does not panic, and is served.
#[test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
fn a_waiter_outlives_the_runtime_that_its_session_was_opened_on() {
    let (main, other) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let (store, ours, held) = main.block_on(async {
        let store = ZooKeeper::open(fresh_namespace()).await;
        let (ours, theirs) = (store.client().await, store.client().await);
        let held = theirs.hold("x", TTL, Retry::NEVER).await.unwrap();
        (store, ours, held)
    });
    other.block_on(warm(&ours));
    let waiter = main.spawn(async move { ours.hold("x", TTL, Retry::within(TTL)).await });
    main.block_on(async {
        // Its node is there before it has gone to sleep.
        first_sleeps(&store, "x").await;
    });
    other.shutdown_timeout(SOON);
    main.block_on(async {
        held.release().await.unwrap();
        let guard = timeout(SOON + SESSION_TIMEOUT * 2, waiter).await.expect("it hangs");
        guard.expect("it has panicked").unwrap().release().await.unwrap();
    });
}
