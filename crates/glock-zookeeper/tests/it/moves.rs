//! A lease that is renewed by another client moves to that one's session.

use std::time::Duration;

use glock_testing::{Fixture, fresh_namespace};
use glock_zookeeper::{Guard, Lease, Lock, LockError, LockExt, LockId, Retry};
use tokio::time::sleep;

use crate::fixture::ZooKeeper;

const TTL: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(600);

/// Handed over as text, a lease outlives the client that it was granted to, and the TTL that it had
/// there; its token stays, and the next one is greater.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_lease_that_moved_outlives_its_first_client() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let (ours, theirs, third) = (store.client().await, store.client().await, store.client().await);
    let id = LockId::new("x").unwrap();
    let first = ours.acquire(&id, SHORT).await.unwrap();
    let lease: Lease = first.to_secret_text().parse().unwrap();
    let lease = theirs.renew(&lease, TTL).await.unwrap();
    assert_eq!(lease.fence(), first.fence());
    // Its first client would have ended it by now.
    sleep(SHORT * 2).await;
    let seen = third.inspect(&id).await.unwrap().expect("a holder");
    assert_eq!(seen.fence, first.fence());
    drop(ours);
    sleep(SHORT).await;
    assert!(matches!(third.acquire(&id, TTL).await, Err(LockError::Held { .. })));
    assert!(!lease.is_expired());
    // And again, to a third one, which keeps it with a guard.
    let lease: Lease = lease.to_secret_text().parse().unwrap();
    let lease = third.renew(&lease, SHORT).await.unwrap();
    let guard = Guard::start(third.clone(), lease, SHORT).unwrap();
    sleep(SHORT * 2).await;
    assert!(guard.is_valid());
    guard.release().await.unwrap();
    let next = third.hold("x", TTL, Retry::within(TTL)).await.unwrap();
    assert!(next.fence() > first.fence());
    next.release().await.unwrap();
}

/// A lease may go to and fro, and is one hold all the time; the client that lets it go is not the
/// one that had it last.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn two_clients_may_pass_a_lease_to_and_fro() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let clients = [store.client().await, store.client().await];
    let id = LockId::new("x").unwrap();
    let mut lease = clients[0].acquire(&id, TTL).await.unwrap();
    for turn in 1..=10_usize {
        let text: Lease = lease.to_secret_text().parse().unwrap();
        lease = clients[turn % 2].renew(&text, TTL).await.unwrap();
        assert_eq!(store.nodes(&id).await.len(), 2, "one hold in turn {turn}");
    }
    clients[1].release(&lease).await.unwrap();
    assert_eq!(store.nodes(&id).await.len(), 0);
}
