//! One lock value used on two runtimes, of which one ends.

use std::time::Duration;

use glock_core::{Lock, LockExt, Retry};
use glock_etcd::{EtcdLock, LockConfig, connect_options, etcd_client::Client};
use glock_testing::fresh_namespace;
use tokio::{
    runtime::Runtime,
    time::{Instant, sleep},
};

use crate::support::{admin::Admin, cluster::Cluster, id, queue, wait_for_x};

const TTL: Duration = Duration::from_mins(10);
const SOON: Duration = Duration::from_secs(20);

/// A lock whose driver's client belongs to the runtime that goes on.
async fn start(namespace: &str) -> (Cluster, Admin, EtcdLock) {
    let cluster = Cluster::start().await;
    let client = Client::connect(cluster.endpoints(), Some(connect_options())).await.unwrap();
    let config = LockConfig::default().with_namespace(namespace);
    let admin = Admin::connect(&cluster.endpoints()).await;
    (cluster, admin, EtcdLock::new(client).with_config(config).unwrap())
}

/// Holds so many locks at once, so that as many leases are left.
async fn hold(lock: &EtcdLock, count: usize) {
    let mut held = Vec::new();
    for n in 0..count {
        held.push(lock.acquire(&id(&format!("x{n}")), TTL).await.unwrap());
    }
    for lease in held {
        lock.release(&lease).await.unwrap();
    }
}

#[test]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
fn spare_leases_are_revoked_once_the_first_runtime_has_ended() {
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let (_cluster, admin, lock) = second.block_on(start(&fresh_namespace()));
    first.block_on(hold(&lock, 1));
    first.shutdown_timeout(SOON);
    second.block_on(async {
        hold(&lock, 4).await;
        assert!(admin.leases().await >= 4);
        let since = Instant::now();
        while admin.leases().await > 1 {
            assert!(since.elapsed() < SOON, "{} leases", admin.leases().await);
            sleep(Duration::from_millis(100)).await;
        }
    });
}

/// The waiters' session is kept alive by the runtime that made it. When that ends, waiters get another
/// one at once, and not when its lease has run out after 6 s.
#[test]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
fn waiters_get_another_session_once_the_first_runtime_has_ended() {
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let namespace = fresh_namespace();
    let (_cluster, admin, lock) = second.block_on(start(&namespace));
    let held = first.block_on(async {
        let held = lock.acquire(&id("x"), TTL).await.unwrap();
        let waited = Retry::within(Duration::from_millis(300));
        assert!(lock.acquire_with_retry("x", TTL, waited).await.is_err());
        queue(&admin, &namespace, 1).await;
        held
    });
    second.block_on(async {
        let waiter = wait_for_x(&lock);
        let waiting = queue(&admin, &namespace, 2).await.swap_remove(1);
        first.shutdown_background();
        sleep(Duration::from_secs(3)).await;
        let other = queue(&admin, &namespace, 2).await.swap_remove(1);
        assert_ne!(waiting.lease, other.lease, "its lease is not kept alive");
        lock.release(&held).await.unwrap();
        lock.release(&waiter.await.unwrap()).await.unwrap();
    });
}

/// A waiter that goes with its runtime leaves no key for those behind it to wait for.
#[test]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
fn a_waiter_that_goes_with_its_runtime_leaves_the_queue() {
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let namespace = fresh_namespace();
    let (_cluster, admin, lock) = second.block_on(start(&namespace));
    second.block_on(async {
        let (held, other) =
            (lock.acquire(&id("x"), TTL).await, lock.acquire(&id("other"), TTL).await);
        // So that the session lasts, and is kept alive on this runtime.
        let waiter = tokio::spawn({
            let lock = lock.clone();
            async move { lock.acquire_with_retry("other", TTL, Retry::FOREVER).await }
        });
        sleep(Duration::from_millis(300)).await;
        let ours = lock.clone();
        first.spawn(async move { ours.acquire_with_retry("x", TTL, Retry::FOREVER).await });
        queue(&admin, &namespace, 2).await;
        first.shutdown_background();
        queue(&admin, &namespace, 1).await;
        lock.release(&held.unwrap()).await.unwrap();
        lock.release(&other.unwrap()).await.unwrap();
        lock.release(&waiter.await.unwrap().unwrap()).await.unwrap();
    });
}

/// The driver's task for a connection runs where the connection was made. A connection whose runtime
/// computes is silent, and is replaced on the runtime of the next caller.
#[test]
#[ignore = "needs a server: run `cargo xtask integration etcd --native`"]
fn a_guard_lives_on_while_the_runtime_that_connected_first_computes() {
    const SHORT: Duration = Duration::from_secs(3);
    let alone = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, second) = (alone(), Runtime::new().unwrap());
    let namespace = fresh_namespace();
    let cluster = second.block_on(Cluster::of(1));
    let lock = crate::support::lock(&cluster.endpoints(), &namespace);
    first.block_on(hold(&lock, 1));
    second.block_on(async {
        let guard = lock.hold("x", SHORT, Retry::NEVER).await.unwrap();
        sleep(SHORT * 2).await;
        assert!(guard.is_valid(), "lost: {:?}", guard.lost().await);
        guard.release().await.unwrap();
    });
    drop(first);
}
