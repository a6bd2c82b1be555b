//! Every later grant of a lock carries a greater token.

use glock_core::{FencingToken, Lock};

use crate::cases::{LONG, expiry::run_out, id, take};
use crate::{Fixture, ttl};

/// Two clients take turns; the token grows each time.
pub async fn tokens_grow_across_release<F: Fixture>(fixture: &F) {
    let clients = [fixture.client().await, fixture.client().await];
    let mut last = FencingToken::new(0);
    for turn in 0..20 {
        let lock = &clients[turn % 2];
        let lease = take(lock, &id("x")).await;
        assert!(lease.fence() > last, "turn {turn}: {} after {last}", lease.fence());
        last = lease.fence();
        lock.release(&lease).await.unwrap();
    }
}

/// The token grows when the lease before ran out instead of being released.
pub async fn tokens_grow_across_expiry<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let stale = run_out(fixture, &ours, &[&theirs], "x").await;
    let lease = take(&theirs, &id("x")).await;
    assert!(lease.fence() > stale.fence(), "the token fell: {lease:?} after {stale:?}");
    theirs.release(&lease).await.unwrap();
}

/// The token grows even when the store has lost all that it knew of the lock.
pub async fn tokens_grow_when_the_store_forgets<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let mut last = FencingToken::new(0);
    for turn in 0..5 {
        // Several grants, so that a counter that starts again is behind.
        for _ in 0..3 {
            let lease = take(&ours, &id("x")).await;
            assert!(lease.fence() > last, "turn {turn}: {} after {last}", lease.fence());
            last = lease.fence();
            ours.release(&lease).await.unwrap();
        }
        let held = take(&theirs, &id("x")).await;
        assert!(held.fence() > last);
        last = held.fence();
        fixture.forget(&id("x")).await;
    }
}

/// Renewals do not change the token, and others see the same one.
pub async fn a_hold_has_one_token<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&ours, &id("x")).await;
    let fence = lease.fence();
    let renewed = ours.renew(&lease, ttl(&ours, LONG)).await.unwrap();
    assert_eq!(renewed.fence(), fence);
    assert_eq!(theirs.inspect(&id("x")).await.unwrap().unwrap().fence, fence);
    ours.release(&renewed).await.unwrap();
}
