//! A future that is dropped leaves nothing behind, wherever it is dropped.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use glock_core::{
    Lock, LockExt,
    toolkit::{LockHooks, WaitQueue},
};
use tokio::time::{sleep, timeout};

use crate::cases::{
    LONG, PATIENT, WATCHED, assert_free, assert_freed, assert_held, id, stress, take,
};
use crate::{
    Fixture,
    process::{alive_tasks, settles},
    ttl,
};

/// A future that is dropped when it is pending for the `left + 1`st time.
pub(super) struct CutAfter<F> {
    work: Pin<Box<F>>,
    left: usize,
}

pub(super) fn cut_after<F: Future>(left: usize, work: F) -> CutAfter<F> {
    CutAfter { work: Box::pin(work), left }
}

impl<F: Future> Future for CutAfter<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => {
                self.left -= 1;
                Poll::Pending
            }
        }
    }
}

/// More await points than any call has.
pub(super) const POINTS_MAX: usize = 500;

/// A reply may arrive so soon that no await point lies between the request and it: more than one pass
/// meets that point.
const PASSES: usize = 3;

/// Dropped at each of its await points in turn, an acquire leaves the lock free.
pub async fn an_acquire_dropped_anywhere_leaves_nothing<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    for pass in 0..PASSES {
        drop_at_each_point(fixture, &ours, pass).await;
    }
    // Not only gone for now: a grant whose request was in flight was undone as well.
    sleep(WATCHED).await;
    assert_eq!(
        fixture.live().await,
        0,
        "a lock is left of an acquire that was dropped at some point"
    );
    assert_free(&theirs, &id("p0")).await;
}

/// Acquires, each time dropped one await point later, until an acquire ends before its point.
async fn drop_at_each_point<F: Fixture>(fixture: &F, ours: &F::Lock, pass: usize) {
    for point in 0..POINTS_MAX {
        let name = id(&format!("p{pass}-{point}"));
        let acquired = cut_after(point, ours.acquire(&name, ttl(ours, LONG))).await;
        if let Some(lease) = acquired {
            return ours.release(&lease.unwrap()).await.unwrap();
        }
        // The request may still be in flight: gone for now is not gone.
        sleep(Duration::from_millis(5)).await;
        assert_freed(fixture, &name, fixture.patience()).await;
    }
    panic!("not finished after {POINTS_MAX} await points");
}

/// Dropped at each of its await points in turn, a wait leaves neither a lock nor a place in the queue.
pub async fn a_wait_dropped_anywhere_leaves_nothing<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let held = take(&theirs, &id("x")).await;
    let kept = fixture.residue().await;
    for point in 0..12 {
        let waiting = ours.acquire_with_retry("x", ttl(&ours, LONG), PATIENT);
        let cut = timeout(Duration::from_millis(30), cut_after(point, waiting)).await;
        assert!(!matches!(cut, Ok(Some(_))), "granted while held");
    }
    assert!(ours.queue().is_none_or(WaitQueue::is_empty), "a place in the queue is left");
    assert_eq!(fixture.owner(&id("x")).await.as_deref(), Some(held.owner().reveal()));
    // What is left behind stays, however long this waits.
    let patience = fixture.patience() * 4;
    settles("what the store keeps", patience, kept, async || fixture.residue().await).await;
    theirs.release(&held).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    assert_eq!(fixture.owner(&id("x")).await, None, "a waiter that is gone took the lock");
    assert_free(&ours, &id("x")).await;
}

/// A renewal that is dropped does not end the lease.
pub async fn a_renewal_dropped_anywhere_keeps_the_lease<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&ours, &id("x")).await;
    for point in 0..POINTS_MAX {
        let renewed = cut_after(point, ours.renew(&lease, ttl(&ours, LONG))).await;
        assert_held(&theirs, &id("x")).await;
        if let Some(renewed) = renewed {
            ours.release(&renewed.unwrap()).await.unwrap();
            return;
        }
    }
    panic!("not finished after {POINTS_MAX} await points");
}

/// A release that is dropped after its first poll frees the lock all the same.
pub async fn a_release_dropped_anywhere_is_carried_out<F: Fixture>(fixture: &F) {
    let ours = fixture.client().await;
    for point in 0..POINTS_MAX {
        let lease = take(&ours, &id("x")).await;
        let released = cut_after(point, ours.release(&lease)).await;
        assert_freed(fixture, &id("x"), fixture.patience()).await;
        if released.is_some() {
            return;
        }
    }
    panic!("not finished after {POINTS_MAX} await points");
}

/// A thousand times, `hold` is dropped at a random moment while tasks contend.
pub async fn a_thousand_dropped_holds_leave_nothing<F: Fixture>(fixture: &F) {
    let ours = fixture.client().await;
    let tasks = stress::warm_up::<F>(&ours, "tasks", alive_tasks).await;
    stress::drop_holds(&ours, stress::TURNS).await;
    assert_nothing_is_left(fixture, &ours, tasks).await;
}

/// A thousand guards are dropped at random moments, in the middle of renewals too.
pub async fn a_thousand_dropped_guards_leave_nothing<F: Fixture>(fixture: &F) {
    let ours = fixture.client().await;
    let tasks = stress::warm_up::<F>(&ours, "tasks", alive_tasks).await;
    stress::drop_guards(&ours, stress::TURNS).await;
    assert_nothing_is_left(fixture, &ours, tasks).await;
}

async fn assert_nothing_is_left<F: Fixture>(fixture: &F, lock: &F::Lock, tasks: usize) {
    for name in stress::names() {
        assert_freed(fixture, &name, fixture.patience()).await;
    }
    sleep(WATCHED).await;
    assert_eq!(fixture.live().await, 0, "a grant came late and was not taken back");
    assert!(lock.queue().is_none_or(WaitQueue::is_empty), "a place in the queue is left");
    // What is left behind stays, however long this waits.
    let patience = fixture.patience() * 4;
    settles("what the store keeps", patience, 0, async || fixture.residue().await).await;
    stress::settles_to(fixture, "tasks of 1,000 holds", tasks + F::REOPENED, alive_tasks).await;
}
