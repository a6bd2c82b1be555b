//! What an operator finds of this store alone: keys and records of other programs, many records, locks that
//! were locked twice, what a cluster lacks.

use std::{collections::BTreeSet, error::Error, time::Duration};

use glock_harness::telemetry::{Recorder, Via};
use glock_hazelcast::{
    Fault, FencingToken, HazelcastClient, HazelcastError, HazelcastFencedLock, HazelcastLock, Lock,
    LockAdmin, LockAdminExt, LockError, LockId,
};
use glock_testing::{Fixture, fresh_namespace};

use crate::support::fixture::{HazelcastCp, HazelcastMap, SESSION_TTL};

const TTL: Duration = Duration::from_mins(1);

fn id(text: &str) -> LockId {
    LockId::new(text).unwrap()
}

async fn listed(lock: &impl LockAdmin, page: usize) -> Vec<(String, FencingToken)> {
    let mut listing = lock.list("").unwrap().with_page(page);
    let mut holds = BTreeSet::new();
    while let Some(hold) = listing.next().await {
        let hold = hold.unwrap();
        holds.insert((hold.id.to_string(), hold.holder.fence));
    }
    holds.into_iter().collect()
}

async fn codes(lock: &impl LockAdmin) -> BTreeSet<&'static str> {
    lock.preflight().await.unwrap().into_iter().map(|warning| warning.code).collect()
}

fn hazelcast(err: &LockError) -> &HazelcastError {
    err.source().and_then(|err| err.downcast_ref()).unwrap_or_else(|| panic!("{err:?}"))
}

fn fenced(addresses: &[String]) -> HazelcastFencedLock {
    let client = HazelcastClient::new(addresses).unwrap();
    HazelcastFencedLock::new(client).with_unsafe_mode().unwrap()
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn what_another_program_has_locked_or_written_is_neither_listed_nor_ended() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let lock = store.client().await;
    let ours = lock.acquire(&id("ours"), TTL).await.unwrap();
    // A key that glock never locked has no record.
    assert!(store.admin.try_lock(&store.locks(), "theirs", 7).await);
    store.admin.set(&store.records(), "odd", "not a record").await;
    assert!(store.admin.try_lock(&store.locks(), "odd", 8).await);
    assert_eq!(listed(&lock, 100).await, [("ours".into(), ours.fence())]);
    for name in ["theirs", "odd"] {
        let ended = lock.force_release(&id(name), FencingToken::new(0)).await.unwrap();
        assert!(!ended && store.admin.is_locked(&store.locks(), name).await, "{name}");
    }
    // A record tells of an owner that has not locked the key since.
    lock.release(&ours).await.unwrap();
    assert!(store.admin.try_lock(&store.locks(), "ours", 9).await);
    assert!(!lock.force_release(&id("ours"), ours.fence()).await.unwrap());
    assert!(store.admin.is_locked(&store.locks(), "ours").await);
}

/// Records stay when their locks are free, so there may be many to a hold; in several pages of a partition.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn holds_are_found_among_many_records() {
    const RECORDS: usize = 3_000;
    let store = HazelcastMap::open(fresh_namespace()).await;
    let lock = store.client().await;
    for n in 0..RECORDS {
        store.admin.set(&store.records(), &format!("old/{n}"), "7 map.x 1 gone").await;
    }
    let mut held = Vec::new();
    for n in 0..20 {
        held.push(lock.acquire(&id(&format!("new/{n:02}")), TTL).await.unwrap());
    }
    let expected: Vec<_> =
        held.iter().map(|lease| (lease.id().to_string(), lease.fence())).collect();
    for page in [3, 100, 1_000] {
        assert_eq!(listed(&lock, page).await, expected, "in pages of {page}");
    }
    let (prefix, mut read, mut after) = ("old/".try_into().unwrap(), 0, None);
    loop {
        let page = lock.list_page(&prefix, after.as_ref(), 50).await.unwrap();
        assert!(page.holds.is_empty(), "no lock of these is held: {page:?}");
        read += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert!(read >= RECORDS / 100, "{read} pages of some 50 records");
    let elsewhere = glock_hazelcast::ListCursor::new("271:2147483647.-1");
    let err = lock.list_page(&prefix, Some(&elsewhere), 50).await.unwrap_err();
    assert!(matches!(err, LockError::Invalid(_)), "there is no such partition: {err:?}");
}

/// A client that renews another one's lease of a fenced lock locks that once more.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_hold_of_two_clients_ends_at_once() {
    async fn check<L: LockAdmin>(ours: L, theirs: L, operator: L) {
        let lease = ours.acquire(&id("x"), TTL).await.unwrap();
        let travelled = lease.to_secret_text().parse().unwrap();
        let lease = theirs.renew(&travelled, TTL).await.unwrap();
        assert!(operator.force_release(&id("x"), lease.fence()).await.unwrap());
        assert!(operator.inspect(&id("x")).await.unwrap().is_none());
        let next = operator.acquire(&id("x"), TTL).await.unwrap();
        for stale in [ours.release(&lease).await, theirs.release(&lease).await] {
            assert!(matches!(stale, Err(LockError::NotHeld { .. })), "{stale:?}");
        }
        operator.release(&next).await.expect("it is held still");
    }
    let store = HazelcastMap::open(fresh_namespace()).await;
    check(store.client().await, store.client().await, store.client().await).await;
    let store = HazelcastCp::open(fresh_namespace()).await;
    let client = || fenced(&store.addresses).with_config(store.config()).unwrap();
    check(client(), client(), client()).await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn fenced_locks_in_unsafe_mode_are_ended_but_not_listed() {
    let store = HazelcastCp::open(fresh_namespace()).await;
    let lock = fenced(&store.addresses).with_config(store.config()).unwrap();
    let lease = lock.acquire(&id("x"), TTL).await.unwrap();
    let err = lock.list("").unwrap().next().await.unwrap().unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    assert!(matches!(hazelcast(&err), HazelcastError::NoListing(_)), "{err:?}");
    assert!(lock.force_release(&id("x"), lease.fence()).await.unwrap());
    assert!(!lock.force_release(&id("x"), lease.fence()).await.unwrap(), "it was ended before");
}

/// The member of the tests is alone, and its CP Subsystem is in unsafe mode, or there is none.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_preflight_says_what_a_single_member_lacks() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    assert_eq!(codes(&store.client().await).await, ["hazelcast.members"].into());
    let strict = HazelcastFencedLock::new(HazelcastClient::new(&store.addresses).unwrap());
    let warned = codes(&strict).await;
    if warned.contains("hazelcast.cp_subsystem") {
        // Since Hazelcast 5.5.
        assert_eq!(codes(&fenced(&store.addresses)).await, ["hazelcast.cp_subsystem"].into());
        return;
    }
    assert_eq!(warned, ["hazelcast.unsafe_mode"].into());
    let impatient = fenced(&store.addresses).with_session_ttl(SESSION_TTL).unwrap();
    let expected = ["hazelcast.session_ttl", "hazelcast.unsafe_mode"].into();
    assert_eq!(codes(&impatient).await, expected);
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn an_operator_s_calls_go_through_telemetry() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let recorder = Recorder::new(Via::Layer);
    let lock = recorder.watch::<HazelcastLock>(store.client().await);
    let lease = lock.acquire(&id("x"), TTL).await.unwrap();
    assert_eq!(listed(&lock, 100).await, [("x".into(), lease.fence())]);
    assert!(lock.force_release(&id("x"), lease.fence()).await.unwrap());
    assert!(codes(&lock).await.contains("hazelcast.members"));
    let seen: BTreeSet<_> = recorder.spans().iter().map(|span| span.name.to_string()).collect();
    for action in ["list", "force_release", "preflight"] {
        assert!(seen.iter().any(|name| name.contains(action)), "{action}: {seen:?}");
    }
}
