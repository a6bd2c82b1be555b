//! Renewals that move a hold to a longer lease.

use std::time::Duration;

use glock_core::Lock;
use glock_testing::fresh_namespace;

use crate::support::{TTL, admin::Admin, id, lock, queue, url};

/// A spare lease that a longer renewal would move to is replaced if an operator has revoked it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_longer_renewal_replaces_a_spare_lease_that_is_gone() {
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    let lease = ours.acquire(&id("x"), TTL).await.unwrap();
    let hold = queue(&admin, &namespace, 1).await.swap_remove(0);
    ours.release(&lease).await.unwrap();
    admin.client.lease_client().revoke(hold.lease).await.unwrap();
    let short = ours.acquire(&id("x"), Duration::from_secs(5)).await.unwrap();
    let longer = ours.renew(&short, TTL).await.unwrap();
    assert_eq!((longer.ttl(), longer.fence()), (TTL, short.fence()));
    ours.release(&longer).await.unwrap();
}

/// A TTL that is longer than the lease's moves the key to another lease, and the token stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_longer_ttl_moves_the_hold_to_another_lease() {
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    let first = ours.acquire(&id("x"), Duration::from_secs(3)).await.unwrap();
    let longer = ours.renew(&first, TTL).await.unwrap();
    assert_eq!((longer.ttl(), longer.fence()), (TTL, first.fence()));
    let hold = queue(&admin, &namespace, 1).await.swap_remove(0);
    assert!(longer.owner().reveal().starts_with(&format!("{:x}-", hold.lease)));
    // The first lease object still stands for the hold.
    let again = ours.renew(&first, Duration::from_secs(3)).await.unwrap();
    assert_eq!(again.ttl(), TTL);
    ours.release(&first).await.unwrap();
    queue(&admin, &namespace, 0).await;
}
