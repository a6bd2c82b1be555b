//! Replies that are lost, and connections that are silent.

use std::time::Duration;

use glock_dynamodb::{Lock, LockError, LockExt, Retry};
use glock_testing::Proxy;
use tokio::time::{Instant, sleep};

use crate::support::{
    BRIEF, LONG, SOON,
    admin::{Admin, conf, lock},
    pair, x,
};

async fn open() -> (Admin, Proxy) {
    let admin = Admin::bare().await;
    admin.lock().create_table().await.unwrap();
    let proxy = Proxy::start(admin.addr).await.unwrap();
    (admin, proxy)
}

/// The first attempt has released the lock, and the second finds it free with the same token.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_release_whose_reply_is_lost_is_known_to_be_done() {
    let (admin, proxy) = open().await;
    let ours = lock(conf(proxy.addr()).build(), admin.config());
    for _ in 0..10 {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        proxy.cut_after_request();
        ours.release(&lease).await.expect("it was released");
        assert!(!proxy.is_armed());
        let again = ours.release(&lease).await;
        assert!(matches!(again, Err(LockError::NotHeld { .. })), "{again:?}");
    }
    admin.clean().await;
}

/// The lock has passed on before the second attempt: it can only be because of the first.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_release_whose_reply_is_lost_is_done_although_the_lock_has_passed_on() {
    let (admin, proxy) = open().await;
    let (ours, theirs) = (lock(conf(proxy.addr()).build(), admin.config()), admin.lock());
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    proxy.drop_replies();
    let releasing = tokio::spawn({
        let ours = ours.clone();
        async move { (ours.release(&lease).await, lease) }
    });
    let next = theirs.acquire_with_retry("x", LONG, Retry::within(SOON)).await.unwrap();
    proxy.pass();
    let (released, lease) = releasing.await.unwrap();
    released.expect("it was released");
    assert!(next.fence() > lease.fence());
    theirs.release(&next).await.expect("its successor still holds it");
    admin.clean().await;
}

/// All connections that a client has are silent, as behind a firewall that has forgotten them; new ones
/// work. A guard keeps its lock, because several attempts fit into what its lease has left.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_guard_outlives_a_connection_that_falls_silent() {
    let (admin, proxy) = open().await;
    let ours = lock(conf(proxy.addr()).build(), admin.config());
    pair(&ours).await;
    let ttl = 4 * BRIEF;
    let guard = ours.hold("x", ttl, Retry::NEVER).await.unwrap();
    for _ in 0..3 {
        let before = proxy.accepted();
        proxy.drop_replies();
        let since = Instant::now();
        while proxy.accepted() == before {
            assert!(since.elapsed() < SOON, "no other connection was made");
            sleep(Duration::from_millis(10)).await;
        }
        proxy.pass();
        sleep(ttl / 2).await;
        assert!(guard.is_valid());
    }
    guard.release().await.unwrap();
    admin.clean().await;
}

/// A silent connection costs an acquire one attempt, and not the call.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn an_acquire_outlives_a_connection_that_is_silent() {
    let (admin, proxy) = open().await;
    let config = admin.config().with_call_timeout(Duration::from_secs(15));
    let ours = lock(conf(proxy.addr()).build(), config);
    pair(&ours).await;
    let before = proxy.accepted();
    proxy.drop_requests();
    let acquiring = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire(&x(), LONG).await }
    });
    let since = Instant::now();
    while proxy.accepted() == before {
        assert!(since.elapsed() < SOON, "no other connection was made");
        sleep(Duration::from_millis(10)).await;
    }
    proxy.pass();
    let lease = acquiring.await.unwrap().expect("another connection works");
    ours.release(&lease).await.unwrap();
    admin.clean().await;
}
