//! A lease ends by itself, neither early nor late.

use std::time::Duration;

use glock_core::{Lease, Lock, LockError};
use tokio::time::{Instant, sleep};

use crate::cases::{LATE_MAX, LONG, PAUSE, SHORT, assert_freed, id};
use crate::{Fixture, ttl};

/// A lease that is neither renewed nor released holds for its TTL, and not much longer.
pub async fn an_expired_lease_frees_the_lock<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let asked = Instant::now();
    let lease = ours.acquire(&id("x"), ttl(&ours, 2 * SHORT)).await.unwrap();
    let latest = Instant::now() + ours.capabilities().expiry_latest(lease.ttl());
    let taken_at = first_grant(&theirs, &lease, latest).await;
    let after = taken_at - asked;
    assert!(taken_at >= lease.deadline(), "free after {after:?} of {:?}", lease.ttl());
}

/// When the store grants the lock to another owner, the first holder's deadline has passed.
pub async fn the_local_deadline_is_never_later_than_the_store_s<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    // Side by side, because each waits for the end of a lease.
    tokio::join!(
        passes_on_after_its_deadline(&ours, &theirs, 0),
        passes_on_after_its_deadline(&ours, &theirs, 1),
        passes_on_after_its_deadline(&ours, &theirs, 2),
    );
}

/// Lets a lease run out that was renewed so many times.
async fn passes_on_after_its_deadline(ours: &impl Lock, theirs: &impl Lock, renewals: u32) {
    let lease = renewed(ours, renewals).await;
    let latest = Instant::now() + ours.capabilities().expiry_latest(lease.ttl());
    let taken_at = first_grant(theirs, &lease, latest).await;
    assert!(
        lease.deadline() <= taken_at,
        "the holder believed in its lease for {:?} after the lock had passed on",
        lease.deadline() - taken_at
    );
}

/// A lease that was renewed so many times. A busy machine may renew one too late; not five in a row.
async fn renewed(lock: &impl Lock, renewals: u32) -> Lease {
    let ttl = ttl(lock, 2 * SHORT);
    'again: for attempt in 0..5 {
        let name = id(&format!("r{renewals}.{attempt}"));
        let mut lease = lock.acquire(&name, ttl).await.unwrap();
        for _ in 0..renewals {
            // Late enough that a renewal which did nothing is seen.
            sleep(lease.ttl() / 3).await;
            let in_time = !lease.is_expired();
            lease = match lock.renew(&lease, ttl).await {
                Err(LockError::NotHeld { .. }) if !in_time || lease.is_expired() => continue 'again,
                // No reply within what the lease had left.
                Err(err) if err.is_retryable() => continue 'again,
                renewed => renewed.unwrap(),
            };
        }
        return lease;
    }
    panic!("every renewal came too late")
}

/// Asks for the lock of `lease` until it is granted, now and then at first and all the time around
/// the deadline; when it was. It is to be free by `latest`.
async fn first_grant(lock: &impl Lock, lease: &Lease, latest: Instant) -> Instant {
    let mut refused_late = 0;
    loop {
        let asked = Instant::now();
        // For a long time, so that a slow answer is not one that came too late.
        let granted = lock.acquire(lease.id(), ttl(lock, LONG)).await;
        let answered = Instant::now();
        match granted {
            Ok(granted) => {
                lock.release(&granted).await.unwrap();
                return answered;
            }
            Err(LockError::Held { .. }) => {}
            Err(err) => panic!("{err}"),
        }
        if asked > latest {
            refused_late += 1;
            assert!(refused_late < LATE_MAX, "`{}` did not come free in time", lease.id());
            sleep(PAUSE).await;
        } else if lease.remaining() > NEAR {
            let near = lease.remaining().saturating_sub(NEAR / 2);
            sleep(near.min(lease.ttl() / 40)).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

/// How long before a deadline it is worth looking closely.
const NEAR: Duration = Duration::from_millis(30);

/// A lease that has run out, for the cases of other groups. The `observers` have looked at it while it
/// began: where the clock is theirs, they know of its end no sooner than a lease's time after that.
pub(super) async fn run_out<F: Fixture>(
    fixture: &F,
    lock: &F::Lock,
    observers: &[&F::Lock],
    name: &str,
) -> Lease {
    let lease = lock.acquire(&id(name), ttl(lock, SHORT)).await.unwrap();
    for observer in observers {
        observer.inspect(&id(name)).await.unwrap();
    }
    assert_freed(fixture, &id(name), lock.capabilities().expiry_latest(lease.ttl())).await;
    // The store's record may be over before the lease's time is.
    sleep(lease.remaining()).await;
    lease
}
