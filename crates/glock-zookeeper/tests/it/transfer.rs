//! A lease that is renewed by another client moves to that one's session.

use std::time::Duration;

use glock_testing::{
    Fixture, Networked, Proxy, fresh_namespace,
    process::{eventually, settles},
};
use glock_zookeeper::{Guard, Lease, Lock, LockError, LockExt, LockId, Retry};
use tokio::time::sleep;

use crate::support::fixture::ZooKeeper;

const TTL: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(2);

/// Handed over as text, it outlives the client that it was granted to, and the TTL that it had there;
/// its token stays, and the next one is greater.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_lease_that_moved_outlives_its_first_client() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let (ours, theirs, third) = (store.client().await, store.client().await, store.client().await);
    let id = LockId::new("x").unwrap();
    for client in [&ours, &theirs, &third] {
        client.hold("warm", TTL, Retry::NEVER).await.unwrap().release().await.unwrap();
    }
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

/// It is one hold all the time; the client that releases it is not the one that had it last.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn two_clients_may_pass_a_lease_to_and_fro() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let clients = [store.client().await, store.client().await];
    let id = LockId::new("x").unwrap();
    let mut lease = clients[0].acquire(&id, TTL).await.unwrap();
    for round in 1..=10_usize {
        let text: Lease = lease.to_secret_text().parse().unwrap();
        lease = clients[round % 2].renew(&text, TTL).await.unwrap();
        assert_eq!(store.nodes(&id).await.len(), 2, "one hold after transfer {round}");
    }
    clients[1].release(&lease).await.unwrap();
    assert_eq!(store.nodes(&id).await.len(), 0);
}

/// Two renewals of one lease at once: whichever moves it, the client ends it at its TTL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn two_renewals_at_once_make_one_hold_that_ends_in_time() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let (ours, theirs) = (store.client().await, store.client().await);
    theirs.hold("warm", TTL, Retry::NEVER).await.unwrap().release().await.unwrap();
    let mut left = Vec::new();
    for round in 0..20 {
        let id = LockId::new(format!("x{round}")).unwrap();
        let lease = ours.acquire(&id, SHORT).await.unwrap();
        let text = || lease.to_secret_text().parse::<Lease>().unwrap();
        let (one, other) = (text(), text());
        let (one, other) = tokio::join!(theirs.renew(&one, SHORT), theirs.renew(&other, SHORT));
        assert_eq!(one.unwrap().fence(), other.unwrap().fence());
        left.push(lease);
    }
    // Long before the session would end them.
    settles("holds", SHORT * 2, 0, async || store.live().await).await;
}

/// A lease has run out, and the request that deletes it was lost: no renewal brings it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_lease_that_ran_out_is_not_renewed_before_it_is_deleted() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let id = LockId::new("x").unwrap();
    for round in 0..5 {
        let lease = ours.acquire(&id, Duration::from_millis(500)).await.unwrap();
        proxy.cut_before_request();
        eventually("the end is cut", TTL, async || !proxy.is_armed()).await;
        assert!(lease.is_expired());
        let renewed = ours.renew(&lease, TTL).await;
        assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "round {round}: {renewed:?}");
        settles("holds", SHORT * 2, 0, async || store.live().await).await;
    }
}

/// Looking for a stale lease does not list the whole namespace.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_stale_lease_costs_the_same_however_many_locks_there_are() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let theirs = store.client().await;
    let mut others = Vec::new();
    for n in 0..200 {
        others.push(theirs.hold(format!("other-{n}"), TTL, Retry::NEVER).await.unwrap());
    }
    let stale = ours.acquire(&LockId::new("x").unwrap(), TTL).await.unwrap();
    ours.release(&stale).await.unwrap();
    let before = proxy.bytes_down();
    assert!(ours.renew(&stale, TTL).await.is_err() && ours.release(&stale).await.is_err());
    let received = proxy.bytes_down() - before;
    assert!(received < 1_000, "{received} bytes");
    drop(others);
}
