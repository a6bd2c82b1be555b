//! What is over leaves nothing in the store: neither refused tries nor holds that ended.

use glock_core::{Lock, LockError};
use tokio::task::JoinSet;

use crate::cases::{LONG, SHORT, expiry::run_out, id, take};
use crate::{
    Fixture,
    process::{alive_tasks, settles},
    ttl,
};

/// A thousand tries are refused; the store has what it had, and no task of theirs lives.
pub async fn a_thousand_refused_tries_leave_nothing<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&theirs, &id("x")).await;
    let (kept, tasks) = (fixture.residue().await, alive_tasks());
    let mut tries = JoinSet::new();
    for _ in 0..8 {
        let ours = ours.clone();
        tries.spawn(async move {
            for _ in 0..125 {
                let refused = ours.acquire(&id("x"), ttl(&ours, LONG)).await;
                assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
            }
        });
    }
    tries.join_all().await;
    let patience = fixture.patience();
    settles("what the store keeps", patience, kept, async || fixture.residue().await).await;
    // A client's own tasks may have begun, but not one a try.
    settles("tasks", patience, tasks + 10, async || alive_tasks()).await;
    theirs.release(&lease).await.unwrap();
    settles("what the store keeps", patience, 0, async || fixture.residue().await).await;
}

/// Holds end in every way that there is; the store has nothing left of them.
pub async fn holds_that_ended_leave_nothing<F: Fixture>(fixture: &F) {
    let ours = fixture.client().await;
    for n in 0..100 {
        let name = id(&format!("x{n}"));
        let mut lease = take(&ours, &name).await;
        if n % 2 == 0 {
            lease = ours.renew(&lease, ttl(&ours, LONG)).await.unwrap();
        }
        ours.release(&lease).await.unwrap();
    }
    let _stale = run_out(fixture, &ours, &[], "stale").await;
    let evicted = take(&ours, &id("evicted")).await;
    fixture.evict(&id("evicted")).await;
    assert!(ours.release(&evicted).await.is_err(), "there was nothing to release");
    // A record that ran out may wait for the store's own cleaning.
    let cleaned = ours.capabilities().expiry_latest(ttl(&ours, SHORT)) + fixture.patience();
    settles("what the store keeps", cleaned, 0, async || fixture.residue().await).await;
}
