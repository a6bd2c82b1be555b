//! A renewal extends a lease, and a guard renews for as long as it lives.

use std::time::Duration;

use glock_core::{Lock, LockExt, LossReason, Retry};
use tokio::time::{Instant, sleep, sleep_until};

use crate::cases::{
    LONG, SHORT, WATCHED, assert_free, assert_freed, assert_held, id, take, until_free, within,
};
use crate::{Fixture, ttl};

/// A renewed lease holds when the first TTL has run out.
pub async fn a_renewed_lease_outlives_its_first_ttl<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let first = ours.acquire(&id("x"), ttl(&ours, SHORT)).await.unwrap();
    let longer = ours.capabilities().expiry_latest(first.ttl()) + Duration::from_secs(10);
    let renewed = ours.renew(&first, longer).await.unwrap();
    assert!(renewed.deadline() > first.deadline());
    assert!(renewed.ttl() >= longer);
    let first_is_over = Instant::now() + ours.capabilities().expiry_latest(first.ttl()) + WATCHED;
    sleep_until(first_is_over).await;
    assert_held(&theirs, &id("x")).await;
    ours.release(&renewed).await.unwrap();
    assert_free(&theirs, &id("x")).await;
}

/// A guard keeps its lock for longer than its TTL, with several renewals.
pub async fn a_guard_keeps_its_lock<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let ttl = ttl(&ours, 4 * SHORT);
    let guard = ours.hold("x", ttl, Retry::NEVER).await.unwrap();
    let until = Instant::now() + ttl * 2;
    while Instant::now() < until {
        assert!(guard.is_valid());
        assert_held(&theirs, &id("x")).await;
        sleep(ttl / 10).await;
    }
    guard.release().await.unwrap();
    assert_free(&theirs, &id("x")).await;
}

/// A renewal leaves the old lease good for all that the hold is good for: a caller that never saw
/// the renewal's answer has no other.
pub async fn an_old_lease_is_as_good_as_the_renewed<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let first = take(&ours, &id("x")).await;
    for _ in 0..3 {
        let renewed = ours.renew(&first, ttl(&ours, LONG)).await.expect("the old lease renews");
        assert_eq!((renewed.owner(), renewed.fence()), (first.owner(), first.fence()));
        assert_eq!(fixture.owner(&id("x")).await.as_deref(), Some(first.owner().reveal()));
    }
    // For more: whatever that makes of the hold, the old lease stands for it.
    let longer = ours.renew(&first, ttl(&ours, 2 * LONG)).await.expect("the old lease renews");
    assert_eq!(longer.fence(), first.fence());
    assert_eq!(fixture.owner(&id("x")).await.as_deref(), Some(longer.owner().reveal()));
    // For less than what is left: the old lease still stands.
    let short = ttl(&ours, SHORT);
    drop(ours.renew(&first, short).await.expect("the old lease renews"));
    sleep(ours.capabilities().expiry_latest(short) + SHORT).await;
    assert!(!first.is_expired(), "this case takes longer than a minute");
    let owner = fixture.owner(&id("x")).await;
    assert_eq!(owner.as_deref(), Some(longer.owner().reveal()), "the old lease was cut short");
    ours.release(&first).await.expect("the old lease releases");
    assert_free(&theirs, &id("x")).await;
}

/// A holder that is stuck keeps its lock for as long as allowed and one TTL, and no longer: nothing
/// but the guard renews.
pub async fn a_stuck_holder_loses_its_lock<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let ttl = ttl(&ours, 3 * SHORT);
    let held_from = Instant::now();
    let guard = ours.hold("x", ttl, Retry::NEVER).await.unwrap().with_max_hold(ttl * 2);
    sleep_until(held_from + ttl * 3 / 2).await;
    assert!(guard.is_valid(), "lost before its time");
    assert_held(&theirs, &id("x")).await;
    let left = (ttl * 3).saturating_sub(held_from.elapsed());
    let reason = within(&theirs, "the loss is reported", left, guard.lost()).await;
    assert_eq!(reason, LossReason::MaxHold);
    // The guard lives on, as the holder is stuck. It renews no more, so this look is at its last lease.
    theirs.inspect(&id("x")).await.unwrap();
    let latest = ours.capabilities().expiry_latest(ttl);
    assert_freed(fixture, &id("x"), latest).await;
    // A copy of its last renewal that came late has begun the lease again.
    let x = id("x");
    let lease = within(&theirs, "the lock is free", latest, until_free(&theirs, &x)).await;
    theirs.release(&lease).await.unwrap();
    drop(guard);
}

/// A guard whose hold was ended behind its back finds out by its deadline at the latest.
pub async fn an_evicted_hold_is_lost_in_time<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let ttl = ttl(&ours, 3 * SHORT);
    let guard = ours.hold("x", ttl, Retry::NEVER).await.unwrap();
    fixture.evict(&id("x")).await;
    assert_free(&theirs, &id("x")).await;
    let reason = within(&theirs, "the loss is reported", guard.remaining(), guard.lost()).await;
    assert_eq!(reason, LossReason::TakenAway);
    assert!(!guard.is_valid());
    assert!(guard.release().await.is_err());
}
