//! One lock value used on two runtimes, of which one ends.

use std::time::Duration;

use glock_core::{Lock, LockExt, Retry};
use glock_etcd::{EtcdLock, LockConfig, connect_options, etcd_client::Client};
use glock_testing::fresh_namespace;
use tokio::{
    runtime::Runtime,
    time::{Instant, sleep},
};

use crate::{
    common::{Bare, cluster::Cluster},
    id,
};

const TTL: Duration = Duration::from_mins(10);

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

/// Spare leases are looked after by another runtime, and waiters get another session, once the
/// runtime that did so first has ended.
#[test]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
fn what_is_kept_is_looked_after_once_the_first_runtime_has_ended() {
    let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    // The driver's client belongs to the runtime that goes on.
    let (cluster, lock) = second.block_on(async {
        let cluster = Cluster::start().await;
        let client = Client::connect(cluster.endpoints(), Some(connect_options())).await.unwrap();
        let config = LockConfig::default().with_namespace(fresh_namespace());
        (cluster, EtcdLock::new(client).with_config(config).unwrap())
    });
    first.block_on(async {
        hold(&lock, 1).await;
        let held = lock.acquire(&id("x"), TTL).await.unwrap();
        let waited = Retry::within(Duration::from_millis(300));
        assert!(lock.acquire_with_retry("x", TTL, waited).await.is_err());
        lock.release(&held).await.unwrap();
    });
    first.shutdown_timeout(Duration::from_secs(10));
    second.block_on(async {
        let held = lock.acquire(&id("x"), TTL).await.unwrap();
        let waiter = tokio::spawn({
            let lock = lock.clone();
            async move { lock.acquire_with_retry("x", TTL, Retry::FOREVER).await }
        });
        // Longer than a session lives that nobody keeps alive.
        sleep(Duration::from_secs(9)).await;
        lock.release(&held).await.unwrap();
        let lease = waiter.await.unwrap().unwrap();
        lock.release(&lease).await.unwrap();
        hold(&lock, 4).await;
        let bare = Bare::connect(&cluster.endpoints()).await;
        assert!(bare.leases().await >= 4);
        let since = Instant::now();
        while bare.leases().await > 1 {
            assert!(since.elapsed() < Duration::from_secs(25), "{} leases", bare.leases().await);
            sleep(Duration::from_millis(100)).await;
        }
    });
}
