//! Holds that are ended before their time.

use std::time::Duration;

use glock_core::{Lock, LockError, LockExt, LossReason, Retry};
use glock_testing::fresh_namespace;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{TTL, admin::Admin, id, lock, queue, url};

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
        let reason =
            timeout(Duration::from_secs(1), guard.lost()).await.expect("the guard does not know");
        assert_eq!(reason, LossReason::TakenAway);
    }
}

/// A renewal of a lease that is gone is not repeated: it fails at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_renewal_of_a_lease_that_is_gone_is_refused_at_once() {
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let lease = ours.acquire(&id("x"), TTL).await.unwrap();
        let hold = queue(&admin, &namespace, 1).await.swap_remove(0);
        admin.client.lease_client().revoke(hold.lease).await.unwrap();
        let since = Instant::now();
        let renewed = ours.renew(&lease, TTL).await;
        assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "{renewed:?}");
        fastest = fastest.min(since.elapsed());
    }
    assert!(fastest < Duration::from_millis(150), "{fastest:?}");
}
