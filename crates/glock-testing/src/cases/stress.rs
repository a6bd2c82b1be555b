//! Tasks that contend for a few locks and give up at random moments.

use std::time::Duration;

use glock_core::{Guard, Lease, Lock, LockError, LockExt, LockId, Retry};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::cases::{LONG, id, take};
use crate::{
    Fixture,
    process::{rests, settles},
    ttl,
};

const TASKS: u64 = 8;
const LOCKS: u64 = 4;
/// How often each task holds a lock, or tries to: a thousand times in all.
pub(crate) const TURNS: u64 = 125;
/// Enough for a client to open and begin what it keeps from then on.
const TURNS_WARM: u64 = 12;

/// The locks that tasks contend for.
pub(crate) fn names() -> impl Iterator<Item = LockId> {
    (0..LOCKS).map(|n| id(&name(n)))
}

fn name(n: u64) -> String {
    format!("contended{n}")
}

const STILL_WITHIN: Duration = Duration::from_mins(1);

/// Lets a client begin what it keeps as long as it lives: connections, a listener, their tasks. Returns
/// how many of `what` that is: it may go up by what the client does next, but must come down again.
pub(crate) async fn warm_up<F: Fixture>(
    lock: &F::Lock,
    what: &str,
    measure: impl FnMut() -> usize,
) -> usize {
    drop_holds(lock, TURNS_WARM).await;
    // Not before the burst, which may close again what a calm wait keeps open.
    let held = take(lock, &id("warm")).await;
    let waited = Retry::within(Duration::from_millis(100));
    let waited = lock.acquire_with_retry("warm", ttl(lock, LONG), waited).await;
    assert!(matches!(waited, Err(LockError::Timeout { .. })), "{waited:?}");
    lock.release(&held).await.unwrap();
    // What was given up is taken back in the background, and what the burst took alone is given up.
    rests(what, F::KEPT_IDLE, STILL_WITHIN, measure).await
}

/// Asserts that what contention made a client open is gone, but for what it had when it was warm.
pub(crate) async fn settles_to<F: Fixture>(
    fixture: &F,
    what: &str,
    warm: usize,
    mut measure: impl FnMut() -> usize,
) {
    settles(what, F::KEPT_IDLE + fixture.patience(), warm, async || measure()).await;
}

/// Drops `hold` at random moments.
pub(crate) async fn drop_holds<L: Lock + Clone>(lock: &L, turns: u64) {
    contend(lock, turns, |lock, name, patience| async move {
        let hold = lock.hold(&name, ttl(&lock, LONG), Retry::FOREVER);
        let _guard_or_nothing = timeout(patience, hold).await;
    })
    .await;
}

/// How long a hold of a few milliseconds may keep others waiting, on a busy machine and a store that is
/// polled: less than its lease lasts.
const FREED: Duration = Duration::from_secs(12);
/// A lease that a guard renews after four milliseconds.
const RENEWED_SOON: Duration = Duration::from_millis(15);

/// Drops guards at random moments, in the middle of renewals too.
pub(crate) async fn drop_guards<L: Lock + Clone>(lock: &L, turns: u64) {
    contend(lock, turns, move |lock, name, patience| async move {
        let long = ttl(&lock, LONG);
        let lease = lock.acquire_with_retry(&name, long, Retry::within(FREED)).await;
        let lease = lease.expect("a guard that was dropped releases");
        // The store's lease lasts, so that what is not released stays to be seen; the guard's is
        // short, so that a renewal is on its way when the guard goes.
        let (owner, now) = (lease.owner().clone(), Instant::now());
        let short = Lease::granted(lease.id().clone(), owner, lease.fence(), now, RENEWED_SOON);
        let guard = Guard::start(lock, short, long).unwrap();
        sleep(patience).await;
        drop(guard);
    })
    .await;
}

/// Eight tasks do something so many times each, on four locks, with 0 to 8 ms of patience.
async fn contend<L, W>(lock: &L, turns: u64, work: impl Fn(L, String, Duration) -> W)
where
    L: Lock + Clone,
    W: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let works: Vec<_> = (0..turns)
            .map(|turn| {
                let random = (task * turns + turn).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                let name = name(random % LOCKS);
                work(lock.clone(), name, Duration::from_micros(random % 8_000))
            })
            .collect();
        tasks.spawn(async move {
            for work in works {
                work.await;
            }
        });
    }
    tasks.join_all().await;
}
