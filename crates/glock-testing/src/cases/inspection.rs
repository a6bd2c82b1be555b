//! `inspect` shows who holds a lock, and nothing shows the owner token.

use glock_core::{Lock, LockError, LockExt, Retry};

use crate::cases::{LONG, expiry::run_out, id, take};
use crate::{Fixture, ttl};

/// The holder's label, token and remaining time; nothing once the lock is free.
pub async fn a_holder_can_be_looked_at<F: Fixture>(fixture: &F) {
    let label = "web-3 \u{1f512} 'x' \"y\"";
    let ours = fixture.client_with(fixture.config().with_holder(label)).await;
    let theirs = fixture.client().await;
    assert_eq!(theirs.inspect(&id("x")).await.unwrap(), None);
    let lease = take(&ours, &id("x")).await;
    let seen = theirs.inspect(&id("x")).await.unwrap().expect("a holder");
    assert_eq!((seen.label.as_str(), seen.fence), (label, lease.fence()));
    if let Some(remaining) = seen.remaining {
        let plausible = remaining <= lease.ttl() && remaining > lease.ttl() / 2;
        assert!(plausible, "{remaining:?} of {:?} are shown as left", lease.ttl());
    }
    match theirs.acquire(&id("x"), ttl(&theirs, LONG)).await {
        Err(LockError::Held { holder: Some(holder), .. }) => {
            assert_eq!((holder.label.as_str(), holder.fence), (label, lease.fence()));
        }
        Err(LockError::Held { holder: None, .. }) => {}
        other => panic!("{other:?}"),
    }
    ours.release(&lease).await.unwrap();
    assert_eq!(theirs.inspect(&id("x")).await.unwrap(), None);
}

/// No holder is shown for a lock whose lease ran out, whether or not the store has cleaned up.
pub async fn an_expired_lease_is_not_shown<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let _stale = run_out(fixture, &ours, &[&theirs], "x").await;
    assert_eq!(theirs.inspect(&id("x")).await.unwrap(), None);
    assert_eq!(ours.inspect(&id("x")).await.unwrap(), None);
}

/// Neither `Debug` nor an error shows the secret that proves a hold.
pub async fn nothing_shows_an_owner_token<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&ours, &id("x")).await;
    let held = theirs.acquire(&id("x"), ttl(&theirs, LONG)).await.unwrap_err();
    let holder = theirs.inspect(&id("x")).await.unwrap();
    ours.release(&lease).await.unwrap();
    let gone = ours.release(&lease).await.unwrap_err();
    let guard = ours.hold("x", ttl(&ours, LONG), Retry::NEVER).await.unwrap();
    let owner = fixture.owner(&id("x")).await.expect("an owner");
    let shown = format!(
        "{ours:?} {ours:#?} {lease:?} {lease:#?} {held} {held:?} {gone} {gone:?} {holder:?} {guard:?} {:?}",
        lease.owner()
    );
    for secret in [lease.owner().reveal(), &owner] {
        assert!(!shown.contains(secret), "a secret is shown: {shown}");
    }
    guard.release().await.unwrap();
}
