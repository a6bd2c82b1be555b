//! Places in line that are lost, by lease or by key, and watches that are cut off.

use std::time::Duration;

use glock_core::{Lease, Lock, LockExt, LossReason, Retry};
use glock_testing::{Proxy, fresh_namespace};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    common::{Bare, Owned, cluster::Cluster, url},
    id, lock,
};

const TTL: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(5);

pub(crate) fn wait_for_x(lock: &glock_etcd::EtcdLock) -> JoinHandle<glock_etcd::Lease> {
    let lock = lock.clone();
    tokio::spawn(async move {
        lock.acquire_with_retry("x", TTL, Retry::within(Duration::from_mins(1))).await.unwrap()
    })
}

/// The line for `x`, once there are so many in it.
pub(crate) async fn line(bare: &Bare, namespace: &str, wanted: usize) -> Vec<Owned> {
    let since = Instant::now();
    loop {
        let line = bare.line(namespace, &id("x")).await;
        if line.len() == wanted {
            return line;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{} in line", line.len());
        sleep(Duration::from_millis(20)).await;
    }
}

/// etcd issue 11456: a waiter whose lease is gone is not granted the lock on it. It gets in line
/// again, and what it is granted is on record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_waiter_whose_lease_is_gone_gets_in_line_again() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let (ours, theirs) = (lock(&url(), &namespace), lock(&url(), &namespace));
    for by_lease in [true, false] {
        let held = theirs.acquire(&id("x"), TTL).await.unwrap();
        let waiter = wait_for_x(&ours);
        let place = line(&bare, &namespace, 2).await.swap_remove(1);
        if by_lease {
            bare.client.lease_client().revoke(place.lease).await.unwrap();
        } else {
            bare.delete(&place.key).await;
        }
        sleep(Duration::from_millis(100)).await;
        theirs.release(&held).await.unwrap();
        let lease = timeout(SOON * 3, waiter).await.expect("it was forgotten").unwrap();
        let on_record = line(&bare, &namespace, 1).await.swap_remove(0);
        assert_ne!(on_record.key, place.key);
        assert_eq!(u64::try_from(on_record.created).unwrap(), lease.fence().get());
        assert_ne!(on_record.lease, place.lease, "a lock is on the lease that waiters share");
        ours.release(&lease).await.unwrap();
    }
}

/// The watch begins at a revision that is compacted away while the connection is down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_watch_that_is_cut_off_by_compaction_is_begun_again() {
    let cluster = Cluster::start().await;
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&cluster.endpoints()).await);
    let first = cluster.endpoints()[0].trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(first).await.unwrap();
    let ours = lock(&[proxy.addr().to_string()], &namespace);
    let theirs = lock(&cluster.endpoints(), &namespace);
    for released_meanwhile in [false, true] {
        let held = theirs.acquire(&id("x"), TTL).await.unwrap();
        let waiter = wait_for_x(&ours);
        line(&bare, &namespace, 2).await;
        sleep(Duration::from_millis(200)).await;
        proxy.refuse();
        proxy.cut();
        let mut kv = bare.client.kv_client();
        let mut revision = 0;
        for _ in 0..20 {
            let put = kv.put(format!("{namespace}.noise"), "", None).await.unwrap();
            revision = put.header().unwrap().revision();
        }
        if released_meanwhile {
            theirs.release(&held).await.unwrap();
        }
        kv.put(format!("{namespace}.noise"), "", None).await.unwrap();
        kv.compact(revision + 1, None).await.unwrap();
        proxy.accept();
        if !released_meanwhile {
            sleep(Duration::from_secs(2)).await;
            assert!(!waiter.is_finished());
            theirs.release(&held).await.unwrap();
        }
        let lease = timeout(SOON, waiter).await.expect("the release was missed").unwrap();
        ours.release(&lease).await.unwrap();
    }
}

/// A guard hears of it when its key or its lease is taken away, long before its deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_guard_is_told_at_once_that_its_hold_was_ended() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    for by_lease in [true, false] {
        let guard = ours.hold("x", TTL, Retry::NEVER).await.unwrap();
        sleep(Duration::from_millis(1_500)).await;
        let hold = line(&bare, &namespace, 1).await.swap_remove(0);
        if by_lease {
            bare.client.lease_client().revoke(hold.lease).await.unwrap();
        } else {
            bare.delete(&hold.key).await;
        }
        let reason = timeout(Duration::from_secs(1), guard.lost()).await.expect("not told");
        assert_eq!(reason, LossReason::TakenAway);
    }
}

/// A spare lease that an operator has revoked costs a round trip, and no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_spare_lease_that_is_gone_is_replaced() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    for _ in 0..3 {
        let lease = ours.acquire(&id("x"), TTL).await.unwrap();
        let hold = line(&bare, &namespace, 1).await.swap_remove(0);
        ours.release(&lease).await.unwrap();
        bare.client.lease_client().revoke(hold.lease).await.unwrap();
    }
}

/// So is one that a longer renewal would move to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_longer_renewal_replaces_a_spare_lease_that_is_gone() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    let lease = ours.acquire(&id("x"), TTL).await.unwrap();
    let hold = line(&bare, &namespace, 1).await.swap_remove(0);
    ours.release(&lease).await.unwrap();
    bare.client.lease_client().revoke(hold.lease).await.unwrap();
    let short = ours.acquire(&id("x"), Duration::from_secs(5)).await.unwrap();
    let longer = ours.renew(&short, TTL).await.unwrap();
    assert_eq!((longer.ttl(), longer.fence()), (TTL, short.fence()));
    ours.release(&longer).await.unwrap();
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

/// A TTL that is longer than the lease's moves the key to another lease, and the token stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_longer_ttl_moves_the_hold_to_another_lease() {
    let (namespace, bare) = (fresh_namespace(), Bare::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    let first = ours.acquire(&id("x"), Duration::from_secs(3)).await.unwrap();
    let longer = ours.renew(&first, TTL).await.unwrap();
    assert_eq!((longer.ttl(), longer.fence()), (TTL, first.fence()));
    let hold = line(&bare, &namespace, 1).await.swap_remove(0);
    assert!(longer.owner().reveal().starts_with(&format!("{:x}-", hold.lease)));
    // The first lease object still stands for the hold.
    let again = ours.renew(&first, Duration::from_secs(3)).await.unwrap();
    assert_eq!(again.ttl(), TTL);
    ours.release(&first).await.unwrap();
    line(&bare, &namespace, 0).await;
}
