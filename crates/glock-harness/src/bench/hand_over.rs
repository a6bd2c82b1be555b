//! How long it takes from one holder's release to the grant of the one that waits.

use std::time::Duration;

use glock_core::{Lock, LockExt, Retry};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use crate::bench::{
    measure::{Budget, Measure, TTL, id, median, micros},
    raw::Raw,
};

/// The budget, which the table repeats.
const HAND_OVER_MAX: f64 = 1.30;

const WARM_UP: usize = 20;
const TURNS: usize = 300;
/// Long enough for the waiter to have gone to sleep.
const HOLD: Duration = Duration::from_millis(8);

/// The line of the table, and glock's median.
pub(super) async fn measure<L: Lock + Clone, R: Raw>(
    lock: &L,
    second: &L,
    raw: &R,
) -> (Measure, Duration) {
    let (mut by_hand, mut by_glock) = (Vec::new(), Vec::new());
    for turn in 0..WARM_UP + TURNS {
        let (one, other) = if turn % 2 == 0 {
            let one = raw_turn(raw).await;
            (one, glock_hand_over(lock, second).await)
        } else {
            let other = glock_hand_over(lock, second).await;
            (raw_turn(raw).await, other)
        };
        if turn >= WARM_UP {
            by_hand.push(one);
            by_glock.push(other);
        }
    }
    let (one, other) = (median(by_hand), median(by_glock));
    let measure = Measure {
        what: "hand-over to a waiter of another client, median",
        raw: micros(one),
        glock: micros(other),
        ratio: other.as_secs_f64() / one.as_secs_f64(),
        budget: Budget::AtMost(HAND_OVER_MAX),
    };
    (measure, other)
}

/// Raw release, raw notification, raw acquire.
async fn raw_turn<R: Raw>(raw: &R) -> Duration {
    const NAME: &str = "hand-raw";
    let grant = raw.acquire(NAME).await;
    let (ready, waiting) = oneshot::channel();
    let waiter = tokio::spawn({
        let raw = raw.clone();
        async move {
            let mut listener = raw.listen(NAME).await;
            let _ = ready.send(());
            raw.released(&mut listener).await;
            let grant = raw.acquire(NAME).await;
            let granted_at = Instant::now();
            raw.release(NAME, grant).await;
            granted_at
        }
    });
    let _ = waiting.await;
    sleep(HOLD).await;
    let released_at = Instant::now();
    raw.release(NAME, grant).await;
    waiter.await.expect("a waiter") - released_at
}

/// From a release by `lock` to the grant of a waiter of `second`.
///
/// # Panics
///
/// If a lock fails.
pub async fn glock_hand_over<L: Lock + Clone>(lock: &L, second: &L) -> Duration {
    let id = id("hand-glock");
    let lease = lock.acquire(&id, TTL).await.expect("a free lock");
    let waiter = tokio::spawn({
        let (second, id) = (second.clone(), id.clone());
        async move {
            let lease = second.acquire_with_retry(&id, TTL, Retry::within(TTL)).await;
            let granted_at = Instant::now();
            second.release(&lease.expect("a grant")).await.expect("a lease that holds");
            granted_at
        }
    });
    sleep(HOLD).await;
    let released_at = Instant::now();
    lock.release(&lease).await.expect("a lease that holds");
    waiter.await.expect("a waiter") - released_at
}
