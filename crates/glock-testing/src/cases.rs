//! The cases of the conformance suite, one module a group. Each takes a fixture and panics if the
//! lock breaks its promise.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a case fails by panicking")]

pub mod admin;
pub mod admin_faults;
pub mod cancellation;
pub mod drain;
pub mod exclusion;
pub mod expiry;
pub mod faults;
pub mod fencing;
pub mod ids;
pub mod inspection;
pub mod leaks;
pub mod limits;
pub mod ownership;
pub mod processes;
pub mod queue;
mod recording;
pub mod renewal;
pub mod round_trips;
pub mod runtimes;
pub mod silence;
mod stress;
pub mod unknown_outcome;
pub mod waiting;
pub mod wakeups;

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use glock_core::{Lease, Lock, LockError, LockId, Retry};
use tokio::time::{Instant, sleep, timeout};

use crate::{Fixture, fresh_namespace, ttl};

/// A TTL that does not run out during a case.
pub(crate) const LONG: Duration = Duration::from_mins(1);
/// A TTL to wait for the end of.
pub(crate) const SHORT: Duration = Duration::from_millis(300);
/// How many requests may get their replies between the time by which something was promised and its
/// coming, each sent [`PAUSE`] after the one before. A constant time would be too short on a busy
/// machine; this one is as slow as the machine.
pub(crate) const LATE_MAX: u32 = 30;
/// The pause before each of these requests.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);
/// The pause of a caller that tries again and again.
const TRY_PAUSE: Duration = Duration::from_millis(150);
/// How long a case looks on, where nothing may happen any more.
pub(crate) const WATCHED: Duration = Duration::from_millis(600);

pub(crate) fn id(name: &str) -> LockId {
    LockId::new(name).unwrap()
}

/// A grant for as long as the case lasts.
pub(crate) async fn take(lock: &impl Lock, id: &LockId) -> Lease {
    lock.acquire(id, ttl(lock, LONG)).await.unwrap()
}

/// The outcome of `work`, which must come within `limit`.
pub(crate) async fn soon<T>(what: &str, limit: Duration, work: impl Future<Output = T>) -> T {
    timeout(limit, work).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"))
}

/// The outcome of `work`, which must come within `limit`, or before `clock` has got [`LATE_MAX`]
/// replies after it.
pub(crate) async fn within<T>(
    clock: &impl Lock,
    what: &str,
    limit: Duration,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    if let Ok(output) = timeout(limit, work.as_mut()).await {
        return output;
    }
    let late = beside(clock, LATE_MAX, work).await;
    late.unwrap_or_else(|| panic!("not within {limit:?}, nor {LATE_MAX} requests later: {what}")).0
}

/// Runs `work` while `clock` sends one request after the other, at most `most` of them. Returns how
/// many had their replies before the outcome came.
pub(crate) async fn beside<T>(
    clock: &impl Lock,
    most: u32,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Option<(T, u32)> {
    let other = id("clock");
    for replies in 0..most {
        let request = async {
            sleep(PAUSE).await;
            clock.inspect(&other).await
        };
        tokio::select! {
            biased;
            output = work.as_mut() => return Some((output, replies)),
            reply = request => drop(reply.expect("a request beside the work")),
        }
    }
    None
}

/// Asserts that the lock is held, by asking for it.
pub(crate) async fn assert_held(lock: &impl Lock, id: &LockId) {
    let result = lock.acquire(id, ttl(lock, SHORT)).await;
    assert!(matches!(result, Err(LockError::Held { .. })), "`{id}` should be held: {result:?}");
}

/// Asserts that the lock is free, by taking and releasing it.
pub(crate) async fn assert_free(lock: &impl Lock, id: &LockId) {
    let lease = lock.acquire(id, ttl(lock, LONG)).await;
    let lease = lease.unwrap_or_else(|err| panic!("`{id}` should be free: {err}"));
    lock.release(&lease).await.unwrap();
}

/// Takes the lock as soon as it is free for a caller that tries again and again.
pub(crate) async fn until_free(lock: &impl Lock, id: &LockId) -> Lease {
    loop {
        match lock.acquire(id, ttl(lock, LONG)).await {
            Ok(lease) => return lease,
            Err(LockError::Held { .. }) => sleep(TRY_PAUSE).await,
            Err(err) => panic!("{err:?}"),
        }
    }
}

/// Asserts that the store has no hold on the lock by `limit` from now, or [`LATE_MAX`] looks later:
/// what is undone in the background takes a moment.
pub(crate) async fn assert_freed(fixture: &impl Fixture, id: &LockId, limit: Duration) {
    let until = Instant::now() + limit;
    let mut late = 0;
    while fixture.owner(id).await.is_some() {
        late += u32::from(Instant::now() > until);
        assert!(late <= LATE_MAX, "`{id}` is still held after {limit:?}");
        sleep(PAUSE).await;
    }
}

/// Takes and releases a lock, so that the client's connections are made: on a busy machine that takes
/// longer than a short call.
pub(crate) async fn until_warm<F: Fixture>(fixture: &F, lock: &F::Lock) {
    let since = Instant::now();
    while let Err(err) = lock.release(&until_taken(fixture, lock).await).await {
        assert!(since.elapsed() < fixture.patience(), "it never works: {err:?}");
    }
}

/// Takes a lock, by a client whose calls are so short that a busy store may be too slow for one.
pub(crate) async fn until_taken<F: Fixture>(fixture: &F, lock: &F::Lock) -> Lease {
    let since = Instant::now();
    loop {
        // Another lock each time: the one before may be being undone.
        let name = id(&fresh_namespace());
        match lock.acquire(&name, ttl(lock, LONG)).await {
            Ok(lease) => return lease,
            Err(err) => assert!(since.elapsed() < fixture.patience(), "it never works: {err:?}"),
        }
    }
}

pub(crate) fn assert_not_held<T>(result: Result<T, LockError>, what: &str) {
    let err = result.err().unwrap_or_else(|| panic!("{what} succeeded"));
    assert!(matches!(err, LockError::NotHeld { .. }), "{what}: {err:?}");
}

/// Waits as long as a case may last.
pub(crate) const PATIENT: Retry = Retry::within(Duration::from_mins(2));
