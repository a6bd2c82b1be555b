//! What is silent is no better than what is gone: connections, servers that stop for a while.

use std::{panic::resume_unwind, time::Duration};

use glock_core::{Lock, LockExt, Retry};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    Networked, Proxy,
    cases::{
        id,
        runtimes::{GUARDS, hold, keeps_its_locks},
        soon, take, within,
    },
    ttl,
};

/// The open connections go mute, as behind a firewall that has forgotten them, while new ones work: no
/// guard loses its lock, and an acquire succeeds within its time limit.
pub async fn connections_that_go_mute_cost_no_guard_its_lock<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let lock = fixture.client_at(proxy.addr(), fixture.config()).await;
    let guards = hold(&lock).await;
    proxy.mute();
    keeps_its_locks(fixture, &lock, guards).await;
}

/// For how many milliseconds the store stops, or is gone, while a client waits.
const OUTAGES: [u64; 4] = [2_500, 3_300, 4_000, 4_500];
const WAIT_MAX: Duration = Duration::from_mins(1);
/// What a waiter that is granted the lock asks for: short, so that what it made ready for that has run out.
const WAITER_TTL: Duration = Duration::from_secs(2);

/// The store stops for a while, or is gone, while a client waits: what passes by itself ends no wait.
pub async fn a_store_that_stops_ends_no_wait<F: Networked>(fixture: &F) {
    let theirs = fixture.client().await;
    let mut waits = JoinSet::new();
    for outage in OUTAGES.map(Duration::from_millis) {
        for stalls in [true, false] {
            let name = id(&format!("waited for {outage:?} {stalls}"));
            let held = take(&theirs, &name).await;
            let proxy = Proxy::start(fixture.upstream()).await.unwrap();
            let ours = fixture.client_at(proxy.addr(), fixture.config()).await;
            let (theirs, patience) = (theirs.clone(), fixture.patience());
            waits.spawn(async move {
                let waiter = tokio::spawn({
                    let (ours, name) = (ours.clone(), name.clone());
                    let ttl = ttl(&ours, WAITER_TTL);
                    async move { ours.acquire_with_retry(name, ttl, Retry::within(WAIT_MAX)).await }
                });
                sleep(BEFORE_OUTAGE).await;
                if stalls {
                    proxy.stall();
                } else {
                    proxy.refuse();
                    proxy.cut();
                }
                sleep(outage).await;
                proxy.pass();
                theirs.release(&held).await.unwrap();
                let granted =
                    soon("the waiter is granted the lock", patience, waiter).await.unwrap();
                let lease = granted.unwrap_or_else(|err| panic!("after {outage:?}: {err:?}"));
                let _it_may_have_run_out = ours.release(&lease).await;
            });
        }
    }
    while let Some(waited) = waits.join_next().await {
        waited.unwrap_or_else(|failed| resume_unwind(failed.into_panic()));
    }
}

const BEFORE_OUTAGE: Duration = Duration::from_millis(500);

/// The store is silent when guards are dropped: `drain` returns in its time and says that they are left.
/// Once the store replies again, the next one returns when they are released.
pub async fn a_drain_of_a_silent_store_says_what_is_left<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let lock = fixture.client_at(proxy.addr(), fixture.config()).await;
    let guards = hold(&lock).await;
    let ids: Vec<_> = guards.iter().map(|guard| guard.id().clone()).collect();
    proxy.stall();
    drop(guards);
    let drained = lock.drain(DRAIN_MAX);
    let left = within(&fixture.client().await, "a drain ends in time", DRAIN_MAX, drained).await;
    assert!(left >= GUARDS, "{left} left of {GUARDS}");
    proxy.cut();
    proxy.pass();
    // A release is tried again after a pause, and what is undone beside it may take its time.
    let left = lock.drain(fixture.patience() * 2).await;
    assert_eq!(left, 0, "{left} left of {GUARDS}");
    for id in ids {
        assert!(fixture.owner(&id).await.is_none(), "`{id}` is still held after a drain");
    }
}

const DRAIN_MAX: Duration = Duration::from_millis(500);
