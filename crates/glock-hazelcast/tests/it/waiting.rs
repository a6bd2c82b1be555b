//! Requests that members park: how many, and what becomes of those whose waiters gave up.

use std::time::Duration;

use glock_hazelcast::{Lock, LockError, LockExt, LockId, Retry};
use glock_testing::{Fixture, fresh_namespace, process::eventually};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::support::fixture::HazelcastMap;

const TTL: Duration = Duration::from_secs(30);

fn id() -> LockId {
    LockId::new("x").unwrap()
}

/// A thousand waits that were given up leave one parked request, which is undone when it is granted.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn waits_that_were_given_up_do_not_take_the_lock_from_others() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let (ours, theirs) = (store.client().await, store.client().await);
    let held = theirs.acquire(&id(), TTL).await.unwrap();
    for _ in 0..1_000 {
        let waiting = ours.hold("x", TTL, Retry::FOREVER);
        assert!(timeout(Duration::from_millis(1), waiting).await.is_err());
    }
    let released = Instant::now();
    theirs.release(&held).await.unwrap();
    let next = theirs.hold("x", TTL, Retry::within(TTL)).await.unwrap();
    // A thousand grants one after the other would take far longer.
    assert!(released.elapsed() < Duration::from_secs(4), "{:?}", released.elapsed());
    next.release().await.unwrap();
    eventually("nothing holds the lock", TTL, async || store.owner(&id()).await.is_none()).await;
}

/// A lock that is granted after a long wait lasts for its whole TTL from the grant on.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn the_ttl_of_a_waiter_counts_from_its_grant() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let (ours, theirs) = (store.client().await, store.client().await);
    let held = theirs.acquire(&id(), TTL).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move {
            let ttl = Duration::from_secs(2);
            let lease = ours.acquire_with_retry("x", ttl, Retry::FOREVER).await.unwrap();
            (lease, Instant::now())
        }
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    let released = Instant::now();
    theirs.release(&held).await.unwrap();
    let (lease, granted) = waiter.await.unwrap();
    // Whatever the reply's way took has passed since the release.
    let since = lease.sent_at().unwrap();
    assert!(since >= released && since <= granted, "{:?} before", granted - since);
    ours.release(&lease).await.unwrap();
}

/// Many clients wait for one lock, and some of them give up: each of the others is granted it once.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn every_client_that_waits_is_served() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    // Kept: the members free the locks of a client that is gone.
    let holder = store.client().await;
    let held = holder.acquire(&id(), TTL).await.unwrap();
    let mut waiters = JoinSet::new();
    for n in 0..16_u64 {
        let client = store.client().await;
        let patience = if n % 4 == 0 { Duration::from_millis(n * 20) } else { TTL * 2 };
        waiters.spawn(async move {
            match client.acquire_with_retry("x", TTL, Retry::within(patience)).await {
                Ok(lease) => {
                    client.release(&lease).await.unwrap();
                    true
                }
                Err(LockError::Timeout { .. }) => false,
                Err(err) => panic!("{err:?}"),
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    holder.release(&held).await.unwrap();
    let served = waiters.join_all().await.into_iter().filter(|served| *served).count();
    assert_eq!(served, 12);
}
