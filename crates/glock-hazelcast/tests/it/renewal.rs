//! Renewals, which lock a key once more and take that back: what is left of them, and what they find.

use std::time::Duration;

use glock_hazelcast::{Lease, Lock, LockError, LockId};
use glock_testing::{Fixture, fresh_namespace};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::support::fixture::HazelcastMap;

const TTL: Duration = Duration::from_secs(30);

fn id() -> LockId {
    LockId::new("x").unwrap()
}

/// Twenty renewals at once lock the key twenty times more: one release frees it.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn renewals_at_the_same_time_leave_one_hold() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let lock = store.client().await;
    for _ in 0..10 {
        let lease = std::sync::Arc::new(lock.acquire(&id(), TTL).await.unwrap());
        let mut renewals = JoinSet::new();
        for _ in 0..20 {
            let (lock, lease) = (lock.clone(), std::sync::Arc::clone(&lease));
            renewals.spawn(async move { lock.renew(&lease, TTL).await.map(drop) });
        }
        for renewed in renewals.join_all().await {
            renewed.unwrap();
        }
        lock.release(&lease).await.unwrap();
        assert_eq!(store.owner(&id()).await, None);
    }
}

/// A hold that was ended is free: as many renewals as there may be find that, and leave it free.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn no_renewal_of_a_hold_that_was_ended_succeeds() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let lock = store.client().await;
    for _ in 0..10 {
        let lease = std::sync::Arc::new(lock.acquire(&id(), TTL).await.unwrap());
        store.evict(&id()).await;
        let mut renewals = JoinSet::new();
        for _ in 0..20 {
            let (lock, lease) = (lock.clone(), std::sync::Arc::clone(&lease));
            renewals.spawn(async move { lock.renew(&lease, TTL).await.map(drop) });
        }
        for renewed in renewals.join_all().await {
            assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "{renewed:?}");
        }
        assert_eq!(store.owner(&id()).await, None);
    }
}

/// Members end the leases of a second together: none ends before its time, with others beside it in its
/// partition, and renewed in the same second too.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn no_lease_ends_early_beside_others() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let lock = store.client().await;
    let ttl = Duration::from_secs(1);
    let mut leases: JoinSet<()> = JoinSet::new();
    for n in 0..300_u64 {
        // Spread over more than a second, a few in each partition.
        sleep(Duration::from_millis(5)).await;
        let (lock, name) = (lock.clone(), format!("x{n}"));
        leases.spawn(async move {
            let id = LockId::new(&name).unwrap();
            let mut lease = lock.acquire(&id, ttl).await.unwrap();
            if n % 2 == 0 {
                sleep(Duration::from_millis(n % 10 * 70)).await;
                let asked = Instant::now();
                lease = match lock.renew(&lease, ttl).await {
                    Ok(renewed) => renewed,
                    // The machine stood still.
                    Err(_) if lease.is_expired() => return,
                    Err(err) => {
                        let (took, left) = (asked.elapsed(), lease.remaining());
                        let holder = lock.inspect(&id).await;
                        panic!("{name}, after {took:?}, {left:?} early: {err:?}; now {holder:?}");
                    }
                };
            }
            sleep_until(lease.deadline()).await;
            let asked = Instant::now();
            let is_held = lock.inspect(&id).await.unwrap().is_some();
            // On a machine that stood still, the reply says nothing.
            let late = asked.elapsed() + asked.saturating_duration_since(lease.deadline());
            assert!(is_held || late > Duration::from_millis(100), "{name} ended early");
        });
    }
    while let Some(checked) = leases.join_next().await {
        checked.unwrap();
    }
}

/// A shorter renewal by another client, which knows no more of the lease than its text says, does not cut
/// the first one's lease short, not even one that was renewed for longer since.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_shorter_renewal_elsewhere_cuts_no_lease_short() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let (ours, theirs) = (store.client().await, store.client().await);
    let second = Duration::from_secs(1);
    let first = ours.acquire(&id(), second * 2).await.unwrap();
    let text = first.to_secret_text();
    let longer = ours.renew(&first, second * 8).await.unwrap();
    let copy: Lease = text.parse().unwrap();
    let renewed = theirs.renew(&copy, second).await.unwrap();
    assert!(renewed.ttl() >= second * 8, "{renewed:?}");
    sleep(second * 5).await;
    assert!(!longer.is_expired());
    assert_eq!(store.owner(&id()).await.as_deref(), Some(longer.owner().reveal()));
    ours.release(&longer).await.unwrap();
}
