//! Members name the owner of a lock in their errors: what an application sees of that.

use std::{error::Error, fmt::Write, time::Duration};

use glock_hazelcast::{Lease, Lock, LockId};
use glock_testing::{Fixture, fresh_namespace};

use crate::support::fixture::HazelcastMap;

/// Another owner's release is refused with a message that has the id of the present owner's client.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn no_error_shows_the_owner_of_a_lock() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    let (ours, theirs) = (store.client().await, store.client().await);
    let (x, y) = (LockId::new("x").unwrap(), LockId::new("y").unwrap());
    let ttl = Duration::from_secs(30);
    let held = ours.acquire(&x, ttl).await.unwrap();
    let other = theirs.acquire(&y, ttl).await.unwrap();
    let text = other.to_secret_text();
    let forged =
        Lease::granted(x, other.owner().clone(), held.fence(), tokio::time::Instant::now(), ttl);
    let mut shown = String::new();
    for err in
        [theirs.release(&forged).await.unwrap_err(), theirs.renew(&forged, ttl).await.unwrap_err()]
    {
        write!(shown, "{err} {err:?} {:?}", err.source()).unwrap();
    }
    write!(shown, "{ours:?} {theirs:#?}").unwrap();
    let client = |lease: &Lease| lease.owner().reveal().split('.').nth(1).unwrap().to_owned();
    for secret in [client(&held), client(&other), text] {
        assert!(!shown.contains(&secret), "{shown}");
        // As members write it.
        let dashed = |hex: &str| {
            format!(
                "{}-{}-{}-{}-{}",
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..]
            )
        };
        assert!(secret.len() != 32 || !shown.contains(&dashed(&secret)), "{shown}");
    }
    ours.release(&held).await.unwrap();
    theirs.release(&other).await.unwrap();
}
