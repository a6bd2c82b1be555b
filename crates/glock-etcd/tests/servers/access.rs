//! Users, passwords and permissions.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_client::{Client, Permission, PermissionType};
use glock_core::{Fault, Lock, LockExt, Retry};
use glock_etcd::{EtcdLock, LockConfig, connect_options, etcd_client};
use glock_testing::{CANARY, fresh_namespace};
use tokio::time::sleep;

use crate::support::{cluster::Cluster, id};

const TTL: Duration = Duration::from_secs(30);

pub(crate) fn lock_of(cluster: &Cluster, user: &str, password: &str, namespace: &str) -> EtcdLock {
    let options = connect_options().with_user(user, password);
    let config = LockConfig::default().with_namespace(namespace);
    EtcdLock::from_endpoints(cluster.endpoints(), options).with_config(config).unwrap()
}

/// A user `locker` who may read and write below one namespace, and no more.
pub(crate) async fn enable_auth(cluster: &Cluster, namespace: &str) {
    let client = Client::connect(cluster.endpoints(), Some(connect_options())).await.unwrap();
    let mut auth = client.auth_client();
    let permission =
        Permission::new(PermissionType::Readwrite, format!("{namespace}/")).with_prefix();
    auth.role_add("locks").await.unwrap();
    auth.role_grant_permission("locks", permission).await.unwrap();
    auth.user_add("locker", "secret", None).await.unwrap();
    auth.user_grant_role("locker", "locks").await.unwrap();
    auth.role_add("root").await.unwrap();
    auth.user_add("root", "secret", None).await.unwrap();
    auth.user_grant_role("root", "root").await.unwrap();
    auth.auth_enable().await.unwrap();
    // Until every member refuses clients that have not logged in, and not only the first one.
    for endpoint in cluster.endpoints() {
        let mut anonymous = Client::connect([&endpoint], Some(connect_options())).await.unwrap();
        while anonymous.get(format!("{namespace}/"), None).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_user_needs_the_right_password_and_a_range_of_keys() {
    let cluster = Cluster::start().await;
    let namespace = fresh_namespace();
    enable_auth(&cluster, &namespace).await;

    let locker = lock_of(&cluster, "locker", "secret", &namespace);
    let held = locker.hold("x", TTL, Retry::NEVER).await.unwrap();
    let waiter = tokio::spawn({
        let locker = locker.clone();
        async move { locker.hold("x", TTL, Retry::within(TTL)).await }
    });
    let first = locker.inspect(&id("x")).await.unwrap().unwrap();
    assert_eq!(first.fence, held.fence());
    held.release().await.unwrap();
    waiter.await.unwrap().unwrap().release().await.unwrap();

    let elsewhere = lock_of(&cluster, "locker", "secret", &fresh_namespace());
    let stranger = lock_of(&cluster, "locker", CANARY, &namespace);
    let anonymous = crate::support::lock(&cluster.endpoints(), &namespace);
    for lock in [elsewhere, stranger, anonymous] {
        let err = lock.acquire(&id("x"), TTL).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
        let later = lock.acquire_with_retry("x", TTL, Retry::within(TTL)).await.unwrap_err();
        assert_eq!(later.fault(), Some(Fault::Rejected), "{later:?}");
        assert!(!format!("{err:?} {err} {later:?} {lock:?}").contains(CANARY));
    }
}

/// The function that yields the options is called again once the password is refused: guards live on,
/// and waiters are woken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_password_is_changed_while_locks_are_held() {
    const SHORT: Duration = Duration::from_secs(3);
    let cluster = Cluster::start().await;
    let namespace = fresh_namespace();
    enable_auth(&cluster, &namespace).await;
    let password = Arc::new(Mutex::new("secret".to_owned()));
    let current = Arc::clone(&password);
    let options = move || connect_options().with_user("locker", &*current.lock().unwrap());
    let config = LockConfig::default().with_namespace(&namespace);
    let ours = EtcdLock::from_endpoints_with(cluster.endpoints(), options);
    let ours = ours.with_config(config).unwrap();
    let held = ours.hold("x", SHORT, Retry::NEVER).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.hold("x", SHORT, Retry::within(TTL)).await }
    });
    let root = connect_options().with_user("root", "secret");
    let root = Client::connect(cluster.endpoints(), Some(root)).await.unwrap();
    for next in ["second", "third"] {
        next.clone_into(&mut password.lock().unwrap());
        root.auth_client().user_change_password("locker", next).await.unwrap();
        sleep(SHORT).await;
        assert!(held.is_valid(), "lost with the {next} password");
    }
    held.release().await.unwrap();
    waiter.await.unwrap().unwrap().release().await.unwrap();
    // A password that is wrong is still refused.
    "fourth".clone_into(&mut password.lock().unwrap());
    let late = ours.with_config(LockConfig::default().with_namespace(&namespace)).unwrap();
    root.auth_client().user_change_password("locker", "fifth").await.unwrap();
    let err = late.acquire_with_retry("x", TTL, Retry::within(TTL)).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
}
