//! The record of a lock beside its key lock: fences, labels, and what other programs do.

use std::time::Duration;

use glock_hazelcast::{Fault, HazelcastClient, HazelcastLock, Lock, LockConfig, LockError, LockId};
use glock_testing::{Fixture, fresh_namespace};

use crate::support::fixture::HazelcastMap;

const TTL: Duration = Duration::from_secs(30);

fn id() -> LockId {
    LockId::new("x").unwrap()
}

/// The Go package, and any program that locks the key of the same map, excludes ours, and is excluded.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn the_default_lock_is_the_key_of_the_go_package_s_map() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    // The default namespace, in a map of its own.
    let map = fresh_namespace();
    let config = LockConfig::default().with_map(&map);
    let client = HazelcastClient::new(&store.addresses).unwrap();
    let lock = HazelcastLock::new(client).with_config(config).unwrap();
    let lease = lock.acquire(&id(), TTL).await.unwrap();
    assert!(store.admin.is_locked(&map, "x").await);
    lock.release(&lease).await.unwrap();
    assert!(!store.admin.is_locked(&map, "x").await);
    // Another program's lock has no record: its holder has no name.
    assert!(store.admin.try_lock(&map, "x", 7).await);
    assert!(matches!(lock.acquire(&id(), TTL).await, Err(LockError::Held { .. })));
    assert!(lock.inspect(&id()).await.unwrap().is_some());
    store.admin.force_unlock(&map, "x").await;
    let again = lock.acquire(&id(), TTL).await.unwrap();
    assert!(again.fence() > lease.fence());
    lock.release(&again).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration hazelcast`"]
async fn a_record_of_another_program_is_neither_used_nor_replaced() {
    let store = HazelcastMap::open(fresh_namespace()).await;
    store.admin.set(&store.records(), "x", "what is this").await;
    let lock = store.client().await;
    let err = lock.acquire(&id(), TTL).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
    assert_eq!(store.admin.get(&store.records(), "x").await.as_deref(), Some("what is this"));
    glock_testing::process::eventually("the lock is undone", store.patience(), async || {
        store.owner(&id()).await.is_none()
    })
    .await;
}
