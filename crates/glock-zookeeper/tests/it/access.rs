//! Which permissions a lock's nodes have, and what happens without them.

use std::time::Duration;

use glock_testing::{
    Fixture, Networked, Proxy, fresh_namespace,
    process::{eventually, settles},
};
use glock_zookeeper::{
    Fault, Lease, Lock, LockConfig, LockExt, LockId, Retry, ZooKeeperLock,
    zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Error, Permission},
};
use tracing_subscriber::filter::LevelFilter;

use crate::{
    secrets::Log,
    support::{admin::in_queue, fixture::ZooKeeper},
};

const TTL: Duration = Duration::from_secs(30);
/// Well before the session would be over by itself.
const SOON: Duration = Duration::from_secs(4);

async fn acl(store: &ZooKeeper, path: &str) -> Vec<Acl> {
    store.admin.sync(path).await.unwrap();
    store.admin.get_acl(path).await.unwrap().0
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn nodes_are_for_the_identity_that_created_them() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let (lock, id) = (store.client().await, LockId::new("x").unwrap());
    let lease = lock.acquire(&id, TTL).await.unwrap();
    let waiter = tokio::spawn({
        let lock = lock.clone();
        async move { lock.hold("x", TTL, Retry::within(TTL)).await }
    });
    in_queue(&store, 1).await;
    let root = store.root();
    let own = format!("{root}/x@own-0-{}", lease.owner().reveal());
    for path in [&root, &format!("{root}/x@lock"), &own, &format!("{root}/x@queue")] {
        let acl = acl(&store, path).await;
        assert_eq!(acl.len(), 1, "{path}");
        assert_eq!(acl[0].scheme(), "digest", "{path}: {acl:?}");
    }
    lock.release(&lease).await.unwrap();
    waiter.await.unwrap().unwrap().release().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn nodes_are_for_everyone_only_where_the_session_has_no_identity() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let anonymous = ZooKeeperLock::new(Client::connector(), &*store.cluster);
    let anonymous = anonymous.with_config(store.config()).unwrap();
    let held = anonymous.hold("x", TTL, Retry::NEVER).await.unwrap();
    let acl = acl(&store, &format!("{}/x@lock", store.root())).await;
    assert_eq!(acl, Acls::anyone_all().to_vec());
    held.release().await.unwrap();
}

/// The first nodes that a session creates may be those of a transfer.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_lease_moves_between_sessions_without_an_identity() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let anonymous = || {
        let lock = ZooKeeperLock::new(Client::connector(), &*store.cluster);
        lock.with_config(store.config()).unwrap()
    };
    let (ours, theirs) = (anonymous(), anonymous());
    let lease = ours.acquire(&LockId::new("x").unwrap(), TTL).await.unwrap();
    let handed: Lease = lease.to_secret_text().parse().unwrap();
    let renewed = theirs.renew(&handed, TTL).await.unwrap();
    theirs.release(&renewed).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn given_permissions_are_used_as_they_are() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let given = vec![
        Acl::new(Permission::ALL, AuthId::new("ip", "127.0.0.1")),
        Acl::new(Permission::READ, AuthId::anyone()),
    ];
    assert!(store.client().await.with_acls(Vec::new()).is_err());
    let lock = store.client().await.with_acls(given.clone()).unwrap();
    let held = lock.hold("x", TTL, Retry::NEVER).await.unwrap();
    let found = acl(&store, &format!("{}/x@lock", store.root())).await;
    assert_eq!(found, given);
    held.release().await.unwrap();
}

/// A connect string whose own path does not exist is a mistake, and reported as one.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_path_of_the_connect_string_that_does_not_exist_is_rejected() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let below = format!("{}/{}", store.cluster, store.namespace);
    let lock = ZooKeeperLock::new(Client::connector(), below);
    let lock = lock.with_config(LockConfig::default()).unwrap();
    let err = lock.hold("x", TTL, Retry::within(TTL)).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    let path = format!("/{}", store.namespace);
    store
        .admin
        .create(&path, b"", &CreateMode::Container.with_acls(Acls::anyone_all()))
        .await
        .unwrap();
    let held = lock.hold("x", TTL, Retry::NEVER).await.unwrap();
    assert_eq!(store.children(&path).await, ["distributed_lock"]);
    held.release().await.unwrap();
}

/// Nothing can be created below an ephemeral node: not now and not later.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_namespace_that_is_ephemeral_is_rejected() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    store.admin.create(&store.root(), b"", &ephemeral).await.unwrap();
    let err = store.client().await.hold("x", TTL, Retry::within(SOON)).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
}

/// Takes away this identity's right to delete below a node.
async fn forbid_deleting(store: &ZooKeeper, path: &str) {
    let rest = Permission::CREATE | Permission::READ | Permission::WRITE | Permission::ADMIN;
    let acls = [Acl::new(rest, AuthId::anyone())];
    store.admin.set_acl(path, &acls, None).await.unwrap();
}

/// How many warnings there are about a node.
fn warnings(log: &Log, path: &str) -> usize {
    let about = |line: &&str| line.contains("may not be deleted") && line.contains(path);
    log.text().lines().filter(about).count()
}

/// The servers would refuse each try to delete it: it is logged once, and does not keep the session
/// open, whose end needs no permission.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_hold_that_may_not_be_deleted_is_logged_and_goes_with_its_client() {
    let (log, reading) = Log::read(LevelFilter::WARN);
    let store = ZooKeeper::open(fresh_namespace()).await;
    let (lock, id) = (store.client().await, LockId::new("x").unwrap());
    let lease = lock.acquire(&id, TTL).await.unwrap();
    forbid_deleting(&store, &store.root()).await;
    let err = lock.release(&lease).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    let path = format!("{}/x@lock", store.root());
    eventually("it is logged", SOON, async || warnings(&log, &path) > 0).await;
    drop(lock);
    settles("nodes", SOON, 0, async || store.nodes(&id).await.len()).await;
    drop(reading);
    assert_eq!(warnings(&log, &path), 1, "{}", log.text());
    assert!(!log.text().contains(lease.owner().reveal()));
}

/// The same of a waiter node: its deletion is not tried again and again.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_waiter_node_that_may_not_be_deleted_is_logged_and_goes_with_its_client() {
    let (log, reading) = Log::read(LevelFilter::WARN);
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let ours = store.client_at(proxy.addr(), store.config()).await;
    let held = store.client().await.hold("x", TTL, Retry::NEVER).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.hold("x", TTL, Retry::within(TTL)).await }
    });
    in_queue(&store, 1).await;
    let before = proxy.bytes_up();
    let path = format!("{}/x@queue", store.root());
    forbid_deleting(&store, &path).await;
    waiter.abort();
    eventually("it is logged", SOON, async || warnings(&log, &path) > 0).await;
    let sent = proxy.bytes_up() - before;
    assert!(sent < 2_000, "{sent} bytes");
    drop(ours);
    in_queue(&store, 0).await;
    drop(reading);
    assert_eq!(warnings(&log, &path), 1, "{}", log.text());
    held.release().await.unwrap();
}

/// The session goes on with the old ones, until it ends.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn the_next_session_has_the_credentials_that_were_set_meanwhile() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
    store.admin.create(&store.root(), b"", &open).await.unwrap();
    let proxy = Proxy::start(store.upstream()).await.unwrap();
    let lock = store.client_at(proxy.addr(), store.config()).await;
    let lock = lock.with_session_timeout(SOON / 2).unwrap();
    // Whether its nodes are for the identity that the store's own client has as well.
    let is_ours = async || {
        let lease = lock.acquire_with_retry("x", TTL, Retry::within(TTL)).await.unwrap();
        let read = store.admin.get_data(&format!("{}/x@lock", store.root())).await;
        lock.release(&lease).await.unwrap();
        match read {
            Ok(_) => true,
            Err(Error::NoAuth) => false,
            Err(err) => panic!("{err}"),
        }
    };
    assert!(is_ours().await);
    lock.clone().set_connector(Client::connector().with_auth("digest", b"glock:changed"));
    assert!(is_ours().await);
    let lease = lock.acquire(&LockId::new("y").unwrap(), TTL).await.unwrap();
    proxy.stall();
    lease.session().unwrap().expired().await;
    proxy.pass();
    assert!(!is_ours().await);
}
