//! ACL tokens: the least policy that a lock needs, and its errors without that.

use std::error::Error;

use glock_consul::{ConsulLock, Fault, Lock, LockError, LockExt, Retry};
use glock_testing::CANARY;

use crate::support::{LONG, Store, asleep_on, id};

/// A lock whose token has the policy of the README: `write` on the namespace's keys and on sessions.
async fn with_policy(store: &Store, rules: &str) -> ConsulLock {
    let name = &store.namespace;
    let rules = rules.replace('"', "\\\"");
    let policy = format!(r#"{{"Name": "{name}", "Rules": "{rules}"}}"#);
    store.admin.json("PUT", "acl/policy", &policy).await;
    let token = format!(r#"{{"Policies": [{{"Name": "{name}"}}]}}"#);
    let token = store.admin.json("PUT", "acl/token", &token).await;
    let client = store.admin.client(store.admin.addr).token(token["SecretID"].as_str().unwrap());
    store.admin.lock(client, store.config())
}

/// The policy that the README states is enough for everything.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn the_least_policy_is_enough() {
    let store = Store::open().await;
    let keys = format!("key_prefix \"{}/\" {{ policy = \"write\" }}", store.namespace);
    let rules = format!("{keys} session_prefix \"\" {{ policy = \"write\" }}");
    let lock = with_policy(&store, &rules).await;
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    assert!(matches!(lock.acquire(&id("x"), LONG).await, Err(LockError::Held { .. })));
    let lease = lock.renew(&lease, LONG).await.unwrap();
    let lease = lock.renew(&lease, LONG * 2).await.unwrap();
    assert!(lock.inspect(&id("x")).await.unwrap().is_some());
    let waiter = tokio::spawn({
        let lock = lock.clone();
        async move { lock.hold("x", LONG, Retry::within(LONG)).await }
    });
    asleep_on(1, &lock).await;
    lock.release(&lease).await.unwrap();
    waiter.await.unwrap().unwrap().release().await.unwrap();
    let other = lock.clone().with_config(store.config().with_namespace("not-ours")).unwrap();
    let err = other.acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
}

/// A token that may make sessions but no keys, or that may do nothing: refused, nothing left.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_token_without_rights_is_rejected_and_leaves_nothing() {
    for rules in [
        "session_prefix \"\" { policy = \"write\" }",
        "session_prefix \"\" { policy = \"write\" } key_prefix \"\" { policy = \"read\" }",
        "key_prefix \"\" { policy = \"write\" }",
    ] {
        let store = Store::open().await;
        let lock = with_policy(&store, rules).await;
        let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Rejected), "{rules}: {err:?}");
        assert!(err.source().unwrap().to_string().contains("403"), "{rules}: {err:?}");
        drop(lock);
        assert_eq!(store.held().await, 0);
        glock_testing::process::eventually("no session is left", LONG, async || {
            store.sessions().await.is_empty()
        })
        .await;
    }
}

/// All clones of the client follow, and the holds of before go on.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_token_is_changed_while_it_is_used() {
    let store = Store::open().await;
    let client = store.admin.client(store.admin.addr).build().unwrap();
    let lock = ConsulLock::new(client.clone()).with_config(store.config()).unwrap();
    let lock = lock.with_session_ttl_min(store.admin.ttl_min).unwrap();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    client.set_token(CANARY).unwrap();
    let err = lock.renew(&lease, LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    client.set_token(&store.admin.token).unwrap();
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
}

/// A client that may not read gets an error, instead of seeing a free lock.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_client_that_may_not_read_gets_an_error() {
    let store = Store::open().await;
    let client = store.admin.client(store.admin.addr).token(CANARY);
    let stranger = store.admin.lock(client, store.config());
    let held = store.lock().acquire(&id("x"), LONG).await.unwrap();
    let err = stranger.inspect(&id("x")).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected));
    let err = stranger.wait(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected));
    let err = stranger.release(&held).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected));
    assert_eq!(store.held().await, 1, "the holder keeps it");
}
