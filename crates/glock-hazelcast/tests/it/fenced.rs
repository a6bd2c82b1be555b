//! Fenced locks on one member, whose CP Subsystem is in unsafe mode: sessions, fences, labels, waiters.

use std::{error::Error, time::Duration};

use glock_hazelcast::{
    Fault, HazelcastClient, HazelcastError, HazelcastFencedLock, Lease, Lock, LockError, LockExt,
    LockId, LossReason, Retry,
};
use glock_testing::{Fixture, fresh_namespace, process::eventually};
use tokio::time::timeout;

use crate::support::{
    admin::Ownership,
    fixture::{HazelcastCp, SESSION_TTL},
};

const TTL: Duration = Duration::from_mins(1);

fn id() -> LockId {
    LockId::new("x").unwrap()
}

async fn open() -> HazelcastCp {
    HazelcastCp::open(fresh_namespace()).await
}

/// A lock of a client of its own. The member's sessions live for 300 s, as Hazelcast's default is.
fn client(store: &HazelcastCp) -> HazelcastFencedLock {
    let client = HazelcastClient::new(&store.addresses).unwrap();
    let lock = HazelcastFencedLock::new(client).with_config(store.config()).unwrap();
    lock.with_unsafe_mode().unwrap()
}

/// Who has the lock, as the member says.
async fn ownership(store: &HazelcastCp) -> Ownership {
    let name = store.name(&id());
    let group = store.admin.group(&name).await;
    store.admin.ownership(&group, &name).await
}

/// Ends a session, as members do with one that has sent no heartbeat.
async fn end_session(store: &HazelcastCp, session: i64) {
    let group = store.admin.group(&store.name(&id())).await;
    assert!(store.admin.close_session(&group, session).await, "it was over before");
}

fn session(lease: &Lease) -> i64 {
    let part = lease.owner().reveal().split('.').nth(3).unwrap();
    i64::from_str_radix(part, 16).unwrap()
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_hold_is_on_record_with_its_fence_its_session_and_one_lock() {
    let store = open().await;
    let lock = client(&store);
    let lease = lock.acquire(&id(), TTL).await.unwrap();
    for _ in 0..3 {
        let lease = lock.renew(&lease, TTL).await.unwrap();
        let found = ownership(&store).await;
        assert_eq!(u64::try_from(found.fence).unwrap(), lease.fence().get());
        assert_eq!((found.session, found.count), (session(&lease), 1));
    }
    lock.release(&lease).await.unwrap();
    assert_eq!(ownership(&store).await.fence, 0);
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_session_has_one_hold_at_a_time_and_is_kept_for_the_next_one() {
    let store = open().await;
    let lock = client(&store);
    let one = lock.acquire(&id(), TTL).await.unwrap();
    // In unsafe mode each lock is in a group of its own, and each group counts its sessions from 1.
    let other = lock.acquire(&LockId::new("y").unwrap(), Duration::from_secs(1)).await.unwrap();
    assert_ne!(one.owner(), other.owner());
    let refused = lock.acquire(&id(), TTL).await;
    assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
    lock.release(&one).await.unwrap();
    let next = lock.acquire(&id(), TTL).await.unwrap();
    assert_ne!(one.owner(), next.owner());
    assert!(next.fence() > one.fence());
    // A session of the first one, or the one that was refused: none beside.
    assert!(session(&next) <= 2, "{}", session(&next));
    // The owner of the old lease does not have the lock, though its session lives.
    assert!(matches!(lock.release(&one).await, Err(LockError::NotHeld { .. })));
    // What the one hold does leaves the end of the other as it was.
    eventually("the other hold is ended at its TTL", TTL, async || {
        lock.inspect(other.id()).await.unwrap().is_none()
    })
    .await;
    lock.release(&next).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_hold_whose_session_the_members_have_ended_is_lost_at_the_next_heartbeat() {
    let store = open().await;
    let (ours, theirs) = (client(&store), client(&store));
    let guard = ours.hold("x", TTL * 10, Retry::NEVER).await.unwrap();
    end_session(&store, ownership(&store).await.session).await;
    let next = theirs.hold("x", TTL, Retry::within(TTL)).await.unwrap();
    // By the heartbeat: the first renewal comes later.
    let lost = timeout(TTL, guard.lost()).await.expect("the loss is reported");
    assert_eq!(lost, LossReason::TakenAway);
    assert!(!guard.is_valid() && next.is_valid() && next.fence() > guard.fence());
    next.release().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_spare_session_that_is_over_fails_no_acquire() {
    let store = open().await;
    let lock = client(&store);
    let lease = lock.acquire(&id(), TTL).await.unwrap();
    lock.release(&lease).await.unwrap();
    end_session(&store, session(&lease)).await;
    let next = lock.acquire(&id(), TTL).await.unwrap();
    assert_ne!(session(&next), session(&lease));
    lock.release(&next).await.unwrap();
}

/// Each client that keeps a hold locks it once, and takes back its own lock alone.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_hold_that_another_client_has_renewed_outlives_the_first_client_s_lease() {
    let store = open().await;
    let (ours, theirs) = (client(&store), client(&store));
    let first = ours.acquire(&id(), Duration::from_secs(1)).await.unwrap();
    let lease = theirs.renew(&first.to_secret_text().parse().unwrap(), TTL).await.unwrap();
    assert_eq!(ownership(&store).await.count, 2);
    eventually("the first client has taken back its lock", TTL, async || {
        ownership(&store).await.count == 1
    })
    .await;
    assert!(first.is_expired() && !lease.is_expired());
    theirs.release(&lease).await.unwrap();
    assert_eq!(ownership(&store).await.fence, 0);
}

/// A session that was granted the lock after its waiter left would keep it for as long as it lives.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn waits_that_were_given_up_leave_the_members_queue() {
    let store = open().await;
    let (ours, theirs) = (client(&store), client(&store));
    let held = theirs.acquire(&id(), TTL).await.unwrap();
    for n in 0..50 {
        let waiting = ours.hold("x", TTL, Retry::FOREVER);
        assert!(timeout(Duration::from_millis(n), waiting).await.is_err());
    }
    theirs.release(&held).await.unwrap();
    // What the members grant to a waiter that has left is taken back, by the end of its session.
    let next = theirs.hold("x", TTL, Retry::within(TTL)).await.unwrap();
    next.release().await.unwrap();
    eventually("nothing holds the lock", TTL, async || ownership(&store).await.fence == 0).await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_client_that_is_gone_leaves_no_label() {
    let store = open().await;
    let labels = format!("distributed_lock/{}#sessions", store.namespace);
    let lock = client(&store);
    let lease = lock.acquire(&id(), TTL).await.unwrap();
    let holder = lock.inspect(&id()).await.unwrap().unwrap();
    assert_eq!(holder.label, store.config().holder);
    lock.release(&lease).await.unwrap();
    assert_eq!(store.admin.keys(&labels).await.len(), 1, "that of the spare session");
    drop(lock);
    eventually("the label is deleted", TTL, async || store.admin.keys(&labels).await.is_empty())
        .await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_cluster_whose_sessions_live_longer_than_promised_is_refused() {
    let store = open().await;
    let lock = client(&store).with_session_ttl(SESSION_TTL).unwrap();
    let err = lock.acquire(&id(), TTL).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    let found = err.source().and_then(|err| err.downcast_ref::<HazelcastError>());
    let is_it = matches!(found, Some(HazelcastError::SessionTtl(ttl)) if *ttl > SESSION_TTL);
    assert!(is_it, "{err:?}");
    assert_eq!(ownership(&store).await.fence, 0);
}
