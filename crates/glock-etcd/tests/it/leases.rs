//! Leases granted ahead, and TTLs.

use std::time::Duration;

use glock_core::{Lease, Lock};
use glock_testing::fresh_namespace;
use tokio::time::sleep;

use crate::support::{TTL, admin::Admin, id, lock, queue, url};

/// A spare lease that an operator has revoked costs a round trip, and no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_spare_lease_that_is_gone_is_replaced() {
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    for _ in 0..3 {
        let lease = ours.acquire(&id("x"), TTL).await.unwrap();
        let hold = queue(&admin, &namespace, 1).await.swap_remove(0);
        ours.release(&lease).await.unwrap();
        admin.client.lease_client().revoke(hold.lease).await.unwrap();
    }
}

/// Leases that locks leave are as young as they are: none is kept alive before a twentieth of its
/// time is gone, however often it was used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_spare_lease_does_not_age_with_its_use() {
    const LONG: Duration = Duration::from_mins(10);
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    for turn in 0..20 {
        let lease = ours.acquire(&id("x"), LONG).await.unwrap();
        ours.release(&lease).await.unwrap();
        if turn == 0 {
            sleep(Duration::from_millis(1_200)).await;
        }
    }
    let last = ours.acquire(&id("x"), LONG).await.unwrap();
    let hold = queue(&admin, &namespace, 1).await.swap_remove(0);
    let left = admin.client.lease_client().time_to_live(hold.lease, None).await.unwrap().ttl();
    assert!((570..=598).contains(&left), "{left} s left: it was kept alive");
    ours.release(&last).await.unwrap();
}

/// Text says what it likes of the TTL; etcd's word counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_ttl_that_was_raised_on_the_way_is_not_believed() {
    let ours = lock(&url(), &fresh_namespace());
    let short = Duration::from_secs(5);
    let lease = ours.acquire(&id("x"), short).await.unwrap();
    let text = lease.to_secret_text();
    let (_, body) = text.strip_prefix("glock1:").unwrap().split_once(':').unwrap();
    let body = body.replacen(":5000:", ":3600000:", 1);
    let sum = body.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let raised: Lease = format!("glock1:{sum:016x}:{body}").parse().unwrap();
    assert_eq!(raised.ttl(), Duration::from_hours(1));
    let renewed = ours.renew(&raised, short).await.unwrap();
    assert!(renewed.ttl() == short && renewed.remaining() < short, "{renewed:?}");
    ours.release(&renewed).await.unwrap();
}
