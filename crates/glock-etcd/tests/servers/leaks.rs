//! What is left behind: nothing.

use std::time::Duration;

use glock_core::{Fault, Lock, LockError, LockExt, Retry};
use glock_testing::{
    Proxy, fresh_namespace,
    process::{Child, role, tell},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{admin::Admin, cluster::Cluster, id, lock};

const TTL: Duration = Duration::from_secs(3);
const ENDPOINTS: &str = "GLOCK_TESTING_ENDPOINTS";
const NAMESPACE: &str = "GLOCK_TESTING_NAMESPACE";
const PROCESSES: usize = 10;
const HOLDS: usize = 20;

/// Waits until the servers have neither leases nor keys.
async fn assert_clean(admin: &Admin, namespace: &str, within: Duration) {
    let since = Instant::now();
    loop {
        let (leases, keys) = (admin.leases().await, admin.keys(namespace).await.len());
        if (leases, keys) == (0, 0) {
            return;
        }
        assert!(since.elapsed() < within, "{leases} leases and {keys} keys are left");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_thousand_failed_tries_leave_one_spare_lease_and_a_client_none() {
    let cluster = Cluster::start().await;
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()).await);
    let (ours, theirs) =
        (lock(&cluster.endpoints(), &namespace), lock(&cluster.endpoints(), &namespace));
    let held = theirs.acquire(&id("x"), TTL * 20).await.unwrap();
    for _ in 0..1_000 {
        let refused = ours.acquire(&id("x"), TTL * 20).await;
        assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
    }
    assert_eq!(admin.leases().await, 2, "the holder's, and one to try with");
    theirs.release(&held).await.unwrap();
    drop((ours, theirs));
    assert_clean(&admin, &namespace, Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_thousand_dropped_futures_leave_nothing() {
    let cluster = Cluster::start().await;
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()).await);
    let clients = [0, 1].map(|_| lock(&cluster.endpoints(), &namespace));
    let mut tasks = JoinSet::new();
    for task in 0..8_u64 {
        let ours = clients[usize::from(task % 2 == 0)].clone();
        tasks.spawn(async move {
            for n in 0..125_u64 {
                let chance = (task * 125 + n).wrapping_mul(0x9e37_79b9);
                let hold = ours.hold(format!("x{}", chance % 3), TTL * 20, Retry::FOREVER);
                let _guard_or_nothing = timeout(Duration::from_micros(chance % 12_000), hold).await;
            }
        });
    }
    tasks.join_all().await;
    drop(clients);
    assert_clean(&admin, &namespace, Duration::from_secs(20)).await;
}

/// A longer renewal whose grant is sent on a connection that is cut, and arrives that much later.
/// Returns whether the fault struck there: on a busy machine it may meet an earlier request, the less likely
/// the longer the proxy's `delay` is.
async fn is_granted_late(
    proxy: &Proxy,
    namespace: &str,
    (late, delay): (Duration, Duration),
) -> bool {
    let ours = lock(&[proxy.addr().to_string()], namespace);
    let held = ours.acquire(&id("x"), TTL * 20).await.unwrap();
    // A renewal sends a keep-alive, and then a grant: there is time to get in between.
    proxy.delay(delay);
    let before = proxy.counts();
    let renewal = tokio::spawn({
        let ours = ours.clone();
        async move { (ours.renew(&held, TTL * 30).await, held) }
    });
    while proxy.requests() == before.requests {
        tokio::task::yield_now().await;
    }
    // All of it is sent by then, and none of it has a reply.
    sleep(delay / 3 * 2).await;
    proxy.cut_and_deliver_late(late);
    proxy.refuse();
    let (renewed, held) = renewal.await.unwrap();
    assert!(renewed.is_err());
    assert!(!proxy.is_armed(), "the fault did not happen");
    proxy.pass();
    ours.release(&held).await.unwrap();
    drop(ours);
    // It counts once the server has replied, which a busy one does much later.
    let (since, arrived) = (Instant::now(), || (proxy.counts() - before).late == 1);
    while !arrived() && since.elapsed() < late * 6 {
        sleep(Duration::from_millis(20)).await;
    }
    arrived()
}

/// A lease that is granted long after its request, and by then is not needed, is revoked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_lease_that_is_granted_late_is_given_back() {
    const LATE: Duration = Duration::from_millis(1_200);
    const ROUNDS: u32 = 15;
    const DELAY: Duration = Duration::from_millis(150);
    let cluster = Cluster::start().await;
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()).await);
    let first = cluster.endpoints()[0].trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(first).await.unwrap();
    let mut struck = false;
    for round in 0..ROUNDS {
        let delay = DELAY * (1 + round / 3);
        struck = is_granted_late(&proxy, &namespace, (LATE, delay)).await;
        // By itself it would run out after 90 s.
        assert_clean(&admin, &namespace, Duration::from_secs(10)).await;
        if struck {
            break;
        }
    }
    assert!(struck, "no grant was late");
}

/// Waits until there are at most so many leases.
async fn assert_leases(admin: &Admin, at_most: usize, within: Duration) {
    let since = Instant::now();
    while admin.leases().await > at_most {
        assert!(since.elapsed() < within, "{} leases, not {at_most}", admin.leases().await);
        sleep(Duration::from_millis(20)).await;
    }
}

/// A spare lease that has been left for too long is given back, and not forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_stale_spare_lease_is_given_back() {
    const LONG: Duration = Duration::from_secs(12);
    let cluster = Cluster::start().await;
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()).await);
    let ours = lock(&cluster.endpoints(), &namespace);
    let lease = ours.acquire(&id("x"), LONG).await.unwrap();
    ours.release(&lease).await.unwrap();
    sleep(LONG / 2).await;
    let lease = ours.acquire(&id("x"), LONG).await.unwrap();
    // By itself it would run out only after this time.
    assert_leases(&admin, 1, LONG / 5 * 2).await;
    ours.release(&lease).await.unwrap();
}

/// A try that does not reach a server gives its lease back, and does not forget it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_spare_lease_outlives_servers_that_are_gone() {
    let mut cluster = Cluster::start().await;
    let ours = lock(&cluster.endpoints()[..1], &fresh_namespace());
    let lease = ours.acquire(&id("x"), TTL * 100).await.unwrap();
    ours.release(&lease).await.unwrap();
    (0..3).for_each(|member| cluster.kill(member));
    // The connection is known to be gone.
    sleep(Duration::from_millis(500)).await;
    let err = ours.acquire(&id("x"), TTL * 100).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
    (0..3).for_each(|member| cluster.restart(member));
    let retry = Retry::within(Duration::from_secs(30));
    let lease = ours.acquire_with_retry("x", TTL * 100, retry).await.unwrap();
    ours.release(&lease).await.unwrap();
    assert_leases(&Admin::connect(&cluster.endpoints()).await, 1, Duration::from_secs(15)).await;
}

/// Callers that leave before they have joined the queue make one session together, not one each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn impatient_callers_leave_no_leases() {
    let cluster = Cluster::start().await;
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()).await);
    let ours = lock(&cluster.endpoints(), &namespace);
    let held = ours.acquire(&id("x"), TTL * 20).await.unwrap();
    for n in 0..100_u64 {
        let patience = Retry::within(Duration::from_micros(n * 50));
        let refused = ours.acquire_with_retry("x", TTL * 20, patience).await;
        assert!(matches!(refused, Err(LockError::Timeout { .. })), "{refused:?}");
    }
    // How many tries were on their way at a time is chance; they were not a hundred. Those that nothing
    // uses are revoked after 5 s.
    assert_leases(&admin, 10, Duration::from_secs(4)).await;
    // The hold's, the waiters', and a spare one.
    assert_leases(&admin, 3, Duration::from_secs(15)).await;
    ours.release(&held).await.unwrap();
}

/// Replies that are lost, holds that move, and holds that are taken away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn lost_replies_leave_no_leases() {
    let cluster = Cluster::start().await;
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()).await);
    let first = cluster.endpoints()[0].trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(first).await.unwrap();
    let ours = lock(&[proxy.addr().to_string()], &namespace);
    let mut renewed = 0;
    for n in 0..40_u32 {
        let cut = || match n % 4 {
            0 => proxy.cut_before_request(),
            1 => proxy.cut_after_request(),
            2 => proxy.cut_inside_request(n as usize),
            _ => proxy.cut_inside_reply(n as usize),
        };
        cut();
        // Longer than the test: whatever is left is found.
        let acquired = ours.acquire(&id(&format!("x{n}")), TTL * 100).await;
        proxy.pass();
        let Ok(lease) = acquired else { continue };
        cut();
        let moved = ours.renew(&lease, TTL * (200 + n)).await;
        proxy.pass();
        renewed += u32::from(moved.is_ok());
        if n % 3 == 0 {
            let hold = admin.first(&namespace, lease.id()).await.unwrap();
            admin.client.lease_client().revoke(hold.lease).await.unwrap();
        }
        let _may_be_gone = ours.release(&moved.unwrap_or(lease)).await;
    }
    assert!(renewed > 0, "nothing came through");
    drop(ours);
    assert_clean(&admin, &namespace, Duration::from_secs(30)).await;
}

/// Holders and waiters of processes that are killed are gone when their leases are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn two_hundred_killed_holders_leave_nothing() {
    let cluster = Cluster::start().await;
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()).await);
    let endpoints = cluster.endpoints().join(",");
    let variables = [(ENDPOINTS, &*endpoints), (NAMESPACE, &*namespace)];
    for _ in 0..PROCESSES {
        let mut child = Child::start("leaks::holder_process", "holders", &variables).unwrap();
        assert_eq!(child.line().await.unwrap().as_deref(), Some("held"));
        child.kill_9().await.unwrap();
    }
    assert!(!admin.keys(&namespace).await.is_empty(), "nothing was held");
    assert_clean(&admin, &namespace, Duration::from_secs(30)).await;
}

/// Not a test: what `two_hundred_killed_holders_leave_nothing` runs in other processes.
#[tokio::test]
#[ignore = "run by a test in a process of its own"]
async fn holder_process() {
    if role().as_deref() != Some("holders") {
        return;
    }
    let variable = |name| std::env::var(name).unwrap();
    let endpoints: Vec<_> = variable(ENDPOINTS).split(',').map(ToOwned::to_owned).collect();
    let lock = lock(&endpoints, &variable(NAMESPACE));
    let mut guards = Vec::new();
    for n in 0..HOLDS {
        let name = format!("{}-{n}", std::process::id());
        guards.push(lock.hold(&name, TTL, Retry::NEVER).await.unwrap());
        // And a waiter for it.
        let lock = lock.clone();
        tokio::spawn(async move { lock.hold(name, TTL, Retry::FOREVER).await });
    }
    sleep(Duration::from_millis(200)).await;
    tell("held").unwrap();
    sleep(Duration::from_mins(1)).await;
}
