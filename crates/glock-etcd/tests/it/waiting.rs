//! Waiters that lose their keys, and what waiting costs the server.

use std::time::Duration;

use glock_core::{Lock, LockExt, Retry};
use glock_testing::{Proxy, fresh_namespace, process::rests};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{SOON, TTL, admin::Admin, id, lock, queue, url, wait_for_x};

const PATIENT: Retry = Retry::within(Duration::from_mins(2));

/// etcd issue 11456: a waiter whose lease is gone is not granted the lock on it. It joins
/// the queue again, and what it is granted is on record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_waiter_whose_lease_is_gone_joins_the_queue_again() {
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let (ours, theirs) = (lock(&url(), &namespace), lock(&url(), &namespace));
    for by_lease in [true, false] {
        let held = theirs.acquire(&id("x"), TTL).await.unwrap();
        let waiter = wait_for_x(&ours);
        let waiting = queue(&admin, &namespace, 2).await.swap_remove(1);
        if by_lease {
            admin.client.lease_client().revoke(waiting.lease).await.unwrap();
        } else {
            admin.delete(&waiting.key).await;
        }
        sleep(Duration::from_millis(100)).await;
        theirs.release(&held).await.unwrap();
        let lease = timeout(SOON * 3, waiter).await.expect("it was forgotten").unwrap();
        let on_record = queue(&admin, &namespace, 1).await.swap_remove(0);
        assert_ne!(on_record.secret, waiting.secret);
        assert_eq!(u64::try_from(on_record.created).unwrap(), lease.fence().get());
        assert_ne!(on_record.lease, waiting.lease, "a lock is on the lease that waiters share");
        ours.release(&lease).await.unwrap();
    }
}

/// A waiter that joins behind a key that is gone, but that is still named as the last, has its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_waiter_behind_a_key_that_an_operator_deleted_has_its_turn() {
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let [holder, first, second] = [(); 3].map(|()| lock(&url(), &namespace));
    let held = holder.acquire(&id("x"), TTL).await.unwrap();
    let served = |lock: glock_etcd::EtcdLock| async move {
        let lease = wait_for_x(&lock).await.unwrap();
        lock.release(&lease).await.unwrap();
    };
    let mut waiters = JoinSet::new();
    waiters.spawn(served(first));
    let waiting = queue(&admin, &namespace, 2).await.swap_remove(1);
    admin.delete(&waiting.key).await;
    waiters.spawn(served(second));
    queue(&admin, &namespace, 2).await;
    holder.release(&held).await.unwrap();
    // The first may have found out before, and joined again.
    timeout(SOON, waiters.join_all()).await.expect("one waits for a key that is gone");
}

/// A client that is cut off for longer than its waiters' lease lives joins the queue again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_client_that_was_cut_off_for_long_joins_the_queue_again() {
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let upstream = url()[0].trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(upstream).await.unwrap();
    let (ours, theirs) = (lock(&[proxy.addr().to_string()], &namespace), lock(&url(), &namespace));
    let held = theirs.acquire(&id("x"), TTL * 2).await.unwrap();
    let waiter = wait_for_x(&ours);
    let waiting = queue(&admin, &namespace, 2).await.swap_remove(1);
    proxy.stall();
    // Its lease of 6 s runs out.
    queue(&admin, &namespace, 1).await;
    proxy.pass();
    assert_ne!(queue(&admin, &namespace, 2).await.swap_remove(1).secret, waiting.secret);
    theirs.release(&held).await.unwrap();
    let lease = timeout(SOON, waiter).await.expect("it was forgotten").unwrap();
    ours.release(&lease).await.unwrap();
}

/// A key that may be deleted once more, by a request that comes late, is not used again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn the_key_of_a_waiter_is_not_used_again_if_its_deletion_was_sent_twice() {
    const STILL: Duration = Duration::from_millis(500);
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let theirs = lock(&url(), &namespace);
    let held = theirs.acquire(&id("x"), TTL).await.unwrap();
    let server = url()[0].trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(server).await.unwrap();
    let ours = lock(&[proxy.addr().to_string()], &namespace);
    let waits_and_leaves = async |cut: bool| {
        let waiter = wait_for_x(&ours);
        let suffix = queue(&admin, &namespace, 2).await.swap_remove(1).suffix;
        // All its other requests have their replies by then.
        rests("requests", STILL, SOON, || proxy.requests()).await;
        if cut {
            proxy.cut_after_request();
        }
        waiter.abort();
        queue(&admin, &namespace, 1).await;
        assert!(!proxy.is_armed());
        // The waiter leaves the queue in the background.
        rests("requests", STILL, SOON, || proxy.requests()).await;
        suffix
    };
    let mut before = waits_and_leaves(false).await;
    let mut used_again = 0;
    loop {
        let suffix = waits_and_leaves(true).await;
        if suffix != before {
            break;
        }
        // One that is free is used again: the first, and one whose keep-alive was cut in the place of its deletion.
        used_again += 1;
        assert!(used_again < 6, "a key was used again each time");
        before = suffix;
    }
    assert!(used_again > 0, "one that is free is used again");
    theirs.release(&held).await.unwrap();
}

/// A thousand waiters share one connection and one keep-alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_thousand_idle_waiters_cost_one_request_a_second_at_most() {
    const IDLE_SECS: u64 = 12;
    let namespace = fresh_namespace();
    let upstream = url()[0].trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(upstream).await.unwrap();
    let holder = lock(&url(), &namespace);
    let ours = lock(&[proxy.addr().to_string()], &namespace);
    let mut held = Vec::new();
    for n in 0..10 {
        held.push(holder.acquire(&id(&format!("x{n}")), TTL * 10).await.unwrap());
    }
    let mut waiters = JoinSet::new();
    for n in 0..1_000 {
        let ours = ours.clone();
        waiters.spawn(async move {
            let name = format!("x{}", n % 10);
            let lease = ours.acquire_with_retry(name, TTL, PATIENT).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    let admin = Admin::connect(&url()).await;
    while admin.keys(&namespace).await.len() < 1_010 {
        sleep(Duration::from_millis(100)).await;
    }
    leases_rest(&admin).await;
    let before = proxy.counts();
    sleep(Duration::from_secs(IDLE_SECS)).await;
    let asked = proxy.counts() - before;
    // A keep-alive every two seconds, and nothing else.
    assert!(asked.requests <= IDLE_SECS / 2 + 2, "{} requests in {IDLE_SECS} s", asked.requests);
    assert!(proxy.connections() <= 2, "{} connections", proxy.connections());
    let since = Instant::now();
    for lease in held {
        holder.release(&lease).await.unwrap();
    }
    waiters.join_all().await;
    println!("1,000 hand-overs in {:?}", since.elapsed());
    assert_eq!(admin.keys(&namespace).await.len(), 0);
}

/// Waits until the spare leases that the tries have left are given back.
async fn leases_rest(admin: &Admin) {
    let (since, mut changed, mut leases) = (Instant::now(), Instant::now(), 0);
    while changed.elapsed() < Duration::from_secs(6) {
        let waited = since.elapsed();
        assert!(waited < Duration::from_mins(5), "the number of leases goes on changing: {leases}");
        let now = admin.leases().await;
        if std::mem::replace(&mut leases, now) != now {
            changed = Instant::now();
        }
        sleep(Duration::from_millis(100)).await;
    }
}
