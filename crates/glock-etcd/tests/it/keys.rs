//! The keys of holds and waiters, and what is in them.

use std::{collections::HashSet, time::Duration};

use glock_core::{Lease, Lock, LockError, LockExt, Retry};
use glock_etcd::{EtcdLock, LockConfig, connect_options, etcd_client::WatchOptions};
use glock_testing::fresh_namespace;
use tokio::{task::JoinSet, time::timeout};

use crate::support::{SOON, TTL, admin::Admin, id, lock, url};

/// etcd looks at every key that ever was in a lock's range, until its history is compacted: so a
/// client has as many keys there as it has had holds and waiters at a time, and not one for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn keys_are_used_again_and_owner_tokens_are_not() {
    const ALONE: usize = 20;
    const TASKS: usize = 4;
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&url()).await);
    let ours = lock(&url(), &namespace);
    let options = WatchOptions::new().with_prefix();
    let mut stream =
        admin.client.watch_client().watch(format!("{namespace}/x/"), Some(options)).await.unwrap();
    let mut tokens = HashSet::new();
    for _ in 0..ALONE {
        let lease = ours.acquire(&id("x"), TTL).await.unwrap();
        assert!(ours.acquire(&id("x"), TTL).await.is_err());
        tokens.insert(lease.owner().reveal().to_owned());
        ours.release(&lease).await.unwrap();
    }
    let mut waiters = JoinSet::new();
    for _ in 0..TASKS {
        let ours = ours.clone();
        waiters.spawn(async move {
            let mut tokens = Vec::new();
            for _ in 0..ALONE {
                // A waiter that leaves the queue, and one that does not.
                let _ = ours.hold("x", TTL, Retry::within(Duration::from_millis(1))).await;
                let lease = ours.acquire_with_retry("x", TTL, Retry::FOREVER).await.unwrap();
                tokens.push(lease.owner().reveal().to_owned());
                ours.release(&lease).await.unwrap();
            }
            tokens
        });
    }
    tokens.extend(waiters.join_all().await.into_iter().flatten());
    assert_eq!(tokens.len(), ALONE * (TASKS + 1), "a token was used twice");
    let (mut keys, mut holds) = (HashSet::new(), 0);
    while let Ok(Ok(Some(message))) = timeout(SOON / 5, stream.message()).await {
        for kv in message.events().iter().filter_map(|event| event.kv()) {
            keys.insert(kv.key().to_owned());
            holds += usize::from(kv.version() == 1);
        }
    }
    assert!(holds >= tokens.len(), "{holds} keys seen of {}", tokens.len());
    // A waiter that leaves the queue in the background has its key a little longer.
    assert!(keys.len() <= 3 * TASKS, "{} keys for {holds} holds", keys.len());
}

/// A client that calls itself something else may release a hold as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_hold_is_released_by_a_client_of_another_name() {
    let namespace = fresh_namespace();
    let named = |name: &str| {
        let config = LockConfig::default().with_namespace(&namespace).with_holder(name);
        EtcdLock::from_endpoints(url(), connect_options()).with_config(config).unwrap()
    };
    let (one, other) = (named("one"), named("another"));
    let lease = one.acquire(&id("x"), TTL).await.unwrap();
    let same: Lease = lease.to_secret_text().parse().unwrap();
    let holder = other.inspect(&id("x")).await.unwrap().unwrap();
    assert_eq!((&*holder.label, holder.fence), ("one", lease.fence()));
    other.release(&same).await.unwrap();
    assert!(matches!(one.release(&lease).await, Err(LockError::NotHeld { .. })));
    assert!(one.inspect(&id("x")).await.unwrap().is_none());
}
