//! TTLs that the store does not offer are refused before anything is sent.

use std::time::Duration;

use glock_core::{Fault, Invalid, Lease, Lock, LockError};
use tokio::time::Instant;

use crate::cases::{LONG, assert_freed, id, take};
use crate::{Fixture, ttl};

/// Zero, too short, too long and enormous: `Invalid`, and the lock is as it was.
pub async fn ttls_out_of_range_reach_no_store<F: Fixture>(fixture: &F) {
    let lock = fixture.client().await;
    let capabilities = lock.capabilities();
    let lease = take(&lock, &id("held")).await;
    for bad in [
        Duration::ZERO,
        capabilities.ttl_min.saturating_sub(Duration::from_nanos(1)),
        capabilities.ttl_max + Duration::from_nanos(1),
        Duration::from_secs(u64::MAX / 2),
        Duration::MAX,
    ] {
        let acquired = lock.acquire(&id("x"), bad).await;
        assert!(
            matches!(acquired, Err(LockError::Invalid(Invalid { what: "ttl", .. }))),
            "{bad:?}: {acquired:?}"
        );
        assert_eq!(fixture.owner(&id("x")).await, None);
        let renewed = lock.renew(&lease, bad).await;
        assert!(
            matches!(renewed, Err(LockError::Invalid(Invalid { what: "ttl", .. }))),
            "{bad:?}: {renewed:?}"
        );
        assert_eq!(fixture.owner(&id("held")).await.as_deref(), Some(lease.owner().reveal()));
    }
    lock.release(&lease).await.unwrap();
}

/// The limits themselves work, and what lies between the store's steps is rounded up.
pub async fn the_shortest_and_the_longest_ttl_work<F: Fixture>(fixture: &F) {
    let lock = fixture.client().await;
    let capabilities = lock.capabilities();
    let shortest = shortest(fixture, &lock).await;
    assert!(shortest.ttl() >= capabilities.ttl_min);
    let latest = capabilities.expiry_latest(shortest.ttl());
    assert_freed(fixture, shortest.id(), latest).await;

    let longest = lock.acquire(&id("long"), capabilities.ttl_max).await.unwrap();
    let longest = lock.renew(&longest, capabilities.ttl_max).await.unwrap();
    // One that hangs on a session reaches as far as that is known to live, and moves on with it.
    let session = longest.session().is_some() && longest.ttl() >= capabilities.ttl_max;
    assert!(session || longest.remaining() > capabilities.ttl_max / 10 * 9);
    let shown = lock.inspect(&id("long")).await.unwrap().expect("a holder");
    if let Some(remaining) = shown.remaining {
        assert!(remaining > capabilities.ttl_max / 10 * 9, "the store has cut it to {remaining:?}");
    }
    lock.release(&longest).await.unwrap();

    let odd = ttl(&lock, LONG) + Duration::from_nanos(1);
    let rounded = lock.acquire(&id("odd"), odd).await.unwrap();
    assert!(rounded.ttl() > ttl(&lock, LONG), "rounded down to {:?}", rounded.ttl());
    lock.release(&rounded).await.unwrap();
}

/// A grant of the shortest TTL. On a busy machine that may run out before the answer is looked at,
/// which the library then says; not each time.
async fn shortest<F: Fixture>(fixture: &F, lock: &F::Lock) -> Lease {
    let since = Instant::now();
    for n in 0.. {
        if n >= 10 && since.elapsed() > fixture.patience() * 4 {
            break;
        }
        let granted = lock.acquire(&id(&format!("short{n}")), lock.capabilities().ttl_min).await;
        match granted {
            Err(err) if err.fault() == Some(Fault::Unknown) => {}
            granted => return granted.unwrap(),
        }
    }
    panic!("the shortest TTL is never long enough");
}
