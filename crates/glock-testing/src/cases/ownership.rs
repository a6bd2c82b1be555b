//! Only the lease that was granted can renew or release a hold.

use glock_core::{Lease, Lock, OwnerToken};
use tokio::time::Instant;

use crate::cases::{LONG, assert_free, assert_not_held, expiry::run_out, id, take};
use crate::{Fixture, MemoryLock, ttl};

/// A lease that has run out is not brought back to life, and does not disturb its successor.
pub async fn an_expired_lease_is_dead<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let stale = run_out(fixture, &ours, &[&theirs], "x").await;
    assert_not_held(
        ours.renew(&stale, ttl(&ours, LONG)).await,
        "renewing before anybody else came",
    );
    assert_not_held(ours.release(&stale).await, "releasing before anybody else came");
    assert_free(&theirs, &id("x")).await;

    let stale = run_out(fixture, &ours, &[&theirs], "x").await;
    let successor = take(&theirs, &id("x")).await;
    assert_not_held(ours.renew(&stale, ttl(&ours, LONG)).await, "renewing a stale lease");
    assert_not_held(ours.release(&stale).await, "releasing a stale lease");
    assert_eq!(fixture.owner(&id("x")).await.as_deref(), Some(successor.owner().reveal()));
    theirs.release(&successor).await.unwrap();
}

/// A lease that was released can be neither renewed nor released again.
pub async fn a_released_lease_is_dead<F: Fixture>(fixture: &F) {
    let ours = fixture.client().await;
    let lease = take(&ours, &id("x")).await;
    ours.release(&lease).await.unwrap();
    assert_not_held(ours.release(&lease).await, "releasing twice");
    assert_not_held(ours.renew(&lease, ttl(&ours, LONG)).await, "renewing after the release");
    assert_eq!(fixture.owner(&id("x")).await, None, "a renewal must not take the lock again");
}

/// A hold that was ended without its holder, by an operator or by another process that has its lease
/// as text, is over for its holder too: whatever else he has that still lives, such as a session.
pub async fn a_lease_that_somebody_else_ended_is_dead<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    for by in ["an operator", "another process"] {
        let lease = take(&ours, &id("x")).await;
        if by == "an operator" {
            fixture.evict(&id("x")).await;
        } else {
            let copy: Lease = lease.to_secret_text().parse().unwrap();
            theirs.release(&copy).await.unwrap();
        }
        let renew = || ours.renew(&lease, ttl(&ours, LONG));
        assert_not_held(renew().await, &format!("renewing what {by} ended"));
        let successor = take(&theirs, &id("x")).await;
        assert_not_held(renew().await, &format!("renewing what {by} ended, after another grant"));
        assert_not_held(ours.release(&lease).await, &format!("releasing what {by} ended"));
        assert_eq!(fixture.owner(&id("x")).await.as_deref(), Some(successor.owner().reveal()));
        theirs.release(&successor).await.unwrap();
    }
}

/// A lease with another owner, or of another lock, is refused and changes nothing.
pub async fn a_foreign_lease_changes_nothing<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = theirs.acquire(&id("x"), ttl(&theirs, LONG)).await.unwrap();
    let other = take(&ours, &id("y")).await;
    let real = lease.owner().reveal();
    let mut owners = vec![
        OwnerToken::random().unwrap(),
        other.owner().clone(),
        OwnerToken::new(format!("{real}0")).unwrap(),
    ];
    owners.extend(OwnerToken::new(&real[..real.len() - 1]));
    if real.to_uppercase() != real {
        owners.push(OwnerToken::new(real.to_uppercase()).unwrap());
    }
    for owner in owners {
        let now = Instant::now();
        let forged = Lease::granted(id("x"), owner, lease.fence(), now, ttl(&ours, LONG));
        assert_not_held(ours.renew(&forged, ttl(&ours, LONG)).await, "renewing a foreign lease");
        assert_not_held(ours.release(&forged).await, "releasing a foreign lease");
        assert_eq!(fixture.owner(&id("x")).await.as_deref(), Some(real));
    }
    theirs.release(&lease).await.unwrap();
    ours.release(&other).await.unwrap();
}

/// A lease that another store granted, with a token of another form: refused, and no lock comes of
/// it.
pub async fn a_lease_of_another_store_changes_nothing<F: Fixture>(fixture: &F) {
    let ours = fixture.client().await;
    let held = take(&ours, &id("held")).await;
    let mut owners = vec![take(&MemoryLock::new(), &id("x")).await.owner().clone()];
    // What tokens of stores look like: session ids, numbers, leases with a number, nothing at all.
    for token in [
        "7587866891236547072",
        "0x1000a2b3c4d0001-0000000042",
        "adf4238a-882b-9ddc-4a9d-5b6758e4159e",
        "694d7a8b9c0d1e2f.0123456789abcdef0123456789abcdef",
        "................",
        "~~~~~~~~~~~~~~~~",
        "----------------",
        "0000000000000000",
        &"f".repeat(128),
    ] {
        owners.push(OwnerToken::new(token).unwrap());
    }
    for owner in owners {
        for name in ["free", "held"] {
            let (now, fence) = (Instant::now(), held.fence());
            let forged = Lease::granted(id(name), owner.clone(), fence, now, ttl(&ours, LONG));
            assert_not_held(ours.renew(&forged, ttl(&ours, LONG)).await, "renewing it");
            assert_not_held(ours.release(&forged).await, "releasing it");
        }
        assert_eq!(fixture.owner(&id("free")).await, None);
        let on_record = fixture.owner(&id("held")).await;
        assert_eq!(on_record.as_deref(), Some(held.owner().reveal()));
    }
    ours.release(&held).await.unwrap();
}

/// A lease goes to another process as text, and is good for a renewal and the release there.
pub async fn a_lease_travels_as_text<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let text = take(&ours, &id("x")).await.to_secret_text();
    let lease: Lease = text.parse().unwrap();
    assert!(lease.is_expired(), "time does not carry over");
    let lease = theirs.renew(&lease, ttl(&theirs, LONG)).await.unwrap();
    assert!(!lease.is_expired());
    theirs.release(&lease).await.unwrap();
    assert_eq!(fixture.owner(&id("x")).await, None);
}
