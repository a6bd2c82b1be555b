//! Holds that are ended before their time.

use std::time::Duration;

use glock_core::{Lock, LockError, LockExt, LossReason, Retry};
use glock_testing::{Proxy, fresh_namespace, process::rests, proxy::Framing};
use tokio::time::{sleep, timeout};

use crate::support::{SOON, TTL, admin::Admin, id, lock, queue, url};

/// A guard is lost at once when its key or its lease is taken away, long before its deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_guard_is_lost_at_once_when_its_hold_is_ended() {
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    for by_lease in [true, false] {
        let guard = ours.hold("x", TTL, Retry::NEVER).await.unwrap();
        sleep(Duration::from_millis(1_500)).await;
        let hold = queue(&admin, &namespace, 1).await.swap_remove(0);
        if by_lease {
            admin.client.lease_client().revoke(hold.lease).await.unwrap();
        } else {
            admin.delete(&hold.key).await;
        }
        // The next renewal, which would find it out, is due after a third of the TTL.
        let reason = timeout(SOON, guard.lost()).await.expect("the guard does not know");
        assert_eq!(reason, LossReason::TakenAway);
    }
}

/// A renewal of a lease that is gone is not repeated: it is refused after a keep-alive and a read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_renewal_of_a_lease_that_is_gone_is_not_repeated() {
    const CALM: Duration = Duration::from_millis(300);
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let upstream = url()[0].trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start_framed(upstream, Framing::Turns).await.unwrap();
    let ours = lock(&[proxy.addr().to_string()], &namespace);
    for _ in 0..5 {
        let lease = ours.acquire(&id("x"), TTL).await.unwrap();
        let hold = queue(&admin, &namespace, 1).await.swap_remove(0);
        admin.client.lease_client().revoke(hold.lease).await.unwrap();
        rests("requests", CALM, SOON, || proxy.requests()).await;
        let before = proxy.counts();
        let renewed = ours.renew(&lease, TTL).await;
        assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "{renewed:?}");
        rests("requests", CALM, SOON, || proxy.requests()).await;
        let asked = (proxy.counts() - before).asked;
        assert!((1..=2).contains(&asked), "{asked} requests");
    }
}
