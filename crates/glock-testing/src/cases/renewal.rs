//! A renewal extends a lease, and a guard renews for as long as it lives.

use std::time::Duration;

use glock_core::{Lock, LockExt, LossReason, Retry};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{SHORT, SLACK, assert_free, assert_held, id};
use crate::{Fixture, ttl};

/// A renewed lease holds when the first TTL has run out.
pub async fn a_renewed_lease_outlives_its_first_ttl<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let first = ours.acquire(&id("x"), ttl(&ours, SHORT)).await.unwrap();
    let longer = ours.capabilities().expiry_latest(first.ttl()) + Duration::from_secs(10);
    let renewed = ours.renew(&first, longer).await.unwrap();
    assert!(renewed.deadline() > first.deadline());
    assert!(renewed.ttl() >= longer);
    let first_is_over = Instant::now() + ours.capabilities().expiry_latest(first.ttl()) + SLACK;
    sleep_until(first_is_over).await;
    assert_held(&theirs, &id("x")).await;
    ours.release(&renewed).await.unwrap();
    assert_free(&theirs, &id("x")).await;
}

/// A guard keeps its lock for many TTLs.
pub async fn a_guard_keeps_its_lock<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let ttl = ttl(&ours, 2 * SHORT);
    let guard = ours.hold("x", ttl, Retry::NEVER).await.unwrap();
    let until = Instant::now() + ttl * 3;
    while Instant::now() < until {
        assert!(guard.is_valid());
        assert_held(&theirs, &id("x")).await;
        sleep(ttl / 10).await;
    }
    guard.release().await.unwrap();
    assert_free(&theirs, &id("x")).await;
}

/// A guard whose hold was ended behind its back finds out by its deadline at the latest.
pub async fn an_evicted_hold_is_lost_in_time<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let ttl = ttl(&ours, 3 * SHORT);
    let guard = ours.hold("x", ttl, Retry::NEVER).await.unwrap();
    fixture.evict(&id("x")).await;
    let deadline = Instant::now() + guard.remaining();
    assert_free(&theirs, &id("x")).await;
    let reason = timeout(ttl + SLACK, guard.lost()).await.expect("the guard never noticed");
    assert!(Instant::now() <= deadline + Duration::from_millis(50), "noticed too late");
    assert_eq!(reason, LossReason::TakenAway);
    assert!(!guard.is_valid());
    assert!(guard.release().await.is_err());
}
