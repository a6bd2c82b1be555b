//! The two connections of a client, on which its locks depend.

use std::time::Duration;

use glock_hazelcast::{HazelcastClient, HazelcastLock, Lock, LockExt, LockId, LossReason, Retry};
use glock_testing::{Fixture, Networked, Proxy, fresh_namespace, process::eventually};
use tokio::time::{sleep, timeout};

use crate::support::fixture::HazelcastMap;

const TTL: Duration = Duration::from_mins(1);

fn id() -> LockId {
    LockId::new("x").unwrap()
}

/// A lock through two proxies, one for each of its connections.
async fn through_two(store: &HazelcastMap) -> (HazelcastLock, [Proxy; 2]) {
    let proxies = [
        Proxy::start(store.upstream()).await.unwrap(),
        Proxy::start(store.upstream()).await.unwrap(),
    ];
    let addresses = proxies.each_ref().map(|proxy| proxy.addr().to_string());
    let client = HazelcastClient::new(addresses).unwrap();
    let lock = HazelcastLock::new(client).with_config(store.config()).unwrap();
    let lease = lock.acquire(&id(), TTL).await.unwrap();
    lock.release(&lease).await.unwrap();
    eventually("both connections are open", TTL, async || {
        proxies.iter().all(|proxy| proxy.connections() == 1)
    })
    .await;
    (lock, proxies)
}

/// Members free the locks of a client that is gone, at a look that comes every ten seconds. It is not gone
/// while one of its connections is open.
#[tokio::test]
#[ignore = "long: 25 s, to see two looks of the member"]
async fn one_connection_keeps_the_locks() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let (lock, proxies) = through_two(&store).await;
    let guard = lock.hold("x", TTL, Retry::NEVER).await.unwrap();
    proxies[0].refuse();
    proxies[0].cut();
    sleep(Duration::from_secs(24)).await;
    assert!(guard.is_valid());
    assert!(store.owner(&id()).await.is_some());
    guard.release().await.unwrap();
}

/// Without any connection for longer than the members take to notice, the lock may be gone: the guard says
/// so at once, long before its TTL.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_client_that_is_gone_for_too_long_has_lost_its_locks() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let (lock, proxies) = through_two(&store).await;
    let guard = lock.hold("x", TTL, Retry::NEVER).await.unwrap();
    for proxy in &proxies {
        proxy.refuse();
        proxy.cut();
    }
    let lost = timeout(Duration::from_secs(5), guard.lost()).await.expect("the loss is reported");
    assert_eq!(lost, LossReason::Expired);
    assert!(!guard.is_valid());
    proxies.iter().for_each(Proxy::pass);
    drop(guard);
    // The members free it, or the client once it is back.
    eventually("the lock is free", TTL, async || store.owner(&id()).await.is_none()).await;
}

/// A call that finds a connection being opened, which then fails, opens another one.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_connection_that_an_earlier_call_began_to_open_fails_no_later_call() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    for _ in 0..5 {
        let proxy = Proxy::start(store.upstream()).await.unwrap();
        let lock = store.client_at(proxy.addr(), store.config()).await;
        proxy.hold_replies();
        let earlier = tokio::spawn({
            let lock = lock.clone();
            async move { drop(lock.inspect(&LockId::new("y").unwrap()).await) }
        });
        eventually("a connection is being opened", TTL, async || proxy.connections() > 0).await;
        let later = tokio::spawn({
            let lock = lock.clone();
            async move { lock.acquire(&id(), TTL).await }
        });
        sleep(Duration::from_millis(50)).await;
        proxy.cut();
        proxy.pass();
        let lease = later.await.unwrap().unwrap();
        earlier.await.unwrap();
        lock.release(&lease).await.unwrap();
    }
}

/// A lease is as good as its client: it proves itself by the next renewal.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_renewal_proves_a_lease_whose_client_was_gone_for_a_moment() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let (lock, proxies) = through_two(&store).await;
    let lease = lock.acquire(&id(), TTL).await.unwrap();
    for proxy in &proxies {
        proxy.cut();
    }
    let renewed = lock.renew(&lease, TTL).await.unwrap();
    assert!(!renewed.is_expired());
    lock.release(&renewed).await.unwrap();
}

/// A lease goes to another client as text, and the first one's connections end: the lock stays.
#[tokio::test]
#[ignore = "long: 15 s, to see a look of the member"]
async fn a_lease_that_another_client_has_renewed_outlives_the_first_one() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let (ours, theirs) = (store.client().await, store.client().await);
    let text = ours.acquire(&id(), TTL).await.unwrap().to_secret_text();
    let lease = theirs.renew(&text.parse().unwrap(), TTL).await.unwrap();
    drop(ours);
    sleep(Duration::from_secs(14)).await;
    assert!(!lease.is_expired());
    assert_eq!(store.owner(&id()).await.as_deref(), Some(lease.owner().reveal()));
    theirs.release(&lease).await.unwrap();
}
