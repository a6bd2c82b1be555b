//! A lease ends by itself, neither early nor late.

use std::time::Duration;

use glock_core::{Lease, Lock, LockError};
use tokio::time::{Instant, sleep};

use super::{SHORT, SLACK, assert_freed, assert_held, id};
use crate::{Fixture, ttl};

/// A lease that nobody renews or releases holds for its TTL, and not much longer.
pub async fn an_expired_lease_frees_the_lock<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let asked = Instant::now();
    let lease = ours.acquire(&id("x"), ttl(&ours, SHORT)).await.unwrap();
    sleep((lease.ttl() * 2 / 3).saturating_sub(asked.elapsed())).await;
    if asked.elapsed() < lease.ttl() * 9 / 10 {
        assert_held(&theirs, &id("x")).await;
    }
    let latest = ours.capabilities().expiry_latest(lease.ttl()) + SLACK;
    let taken_at = first_grant(&theirs, "x", asked + latest).await;
    assert!(taken_at - asked <= latest, "free only after {:?}", taken_at - asked);
}

/// When the store gives the lock to somebody else, the first holder's deadline has passed.
pub async fn the_local_deadline_is_never_later_than_the_store_s<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    for round in 0..4 {
        let name = format!("r{round}");
        let mut lease = ours.acquire(&id(&name), ttl(&ours, SHORT)).await.unwrap();
        if round % 2 == 1 {
            // Late enough that a renewal which did nothing is seen.
            sleep(lease.ttl() / 3).await;
            lease = ours.renew(&lease, ttl(&ours, SHORT)).await.unwrap();
        }
        sleep(lease.remaining().saturating_sub(Duration::from_millis(20))).await;
        let latest = ours.capabilities().expiry_latest(lease.ttl()) + SLACK;
        let taken_at = first_grant(&theirs, &name, Instant::now() + latest).await;
        assert!(
            lease.deadline() <= taken_at,
            "the holder believed in its lease for {:?} after the lock had passed on",
            lease.deadline() - taken_at
        );
    }
}

/// Asks again and again until `give_up`; when the lock was granted.
async fn first_grant(lock: &impl Lock, name: &str, give_up: Instant) -> Instant {
    loop {
        match lock.acquire(&id(name), ttl(lock, SHORT)).await {
            Ok(_lease) => return Instant::now(),
            Err(LockError::Held { .. }) => {}
            Err(err) => panic!("{err}"),
        }
        assert!(Instant::now() < give_up, "`{name}` did not come free in time");
        tokio::task::yield_now().await;
    }
}

/// A lease that has run out, for the cases of other groups.
pub(super) async fn run_out<F: Fixture>(fixture: &F, lock: &F::Lock, name: &str) -> Lease {
    let lease = lock.acquire(&id(name), ttl(lock, SHORT)).await.unwrap();
    sleep(lock.capabilities().expiry_latest(lease.ttl())).await;
    assert_freed(fixture, &id(name), SLACK).await;
    lease
}
