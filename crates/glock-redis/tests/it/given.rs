//! Connections that the application manages.

use std::time::Duration;

use glock_redis::{Fault, Lock, LockError, LockExt, RedisLock, Retry, Waiting};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{LONG, SLACK, Server, eventually, id};

async fn given(server: &Server) -> RedisLock {
    let connection = server.client.get_multiplexed_async_connection().await.unwrap();
    RedisLock::from_connection(connection).with_config(server.config()).unwrap()
}

/// How long after the release a waiter had the lock.
async fn hand_over(ours: &RedisLock, theirs: &RedisLock) -> Duration {
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move {
            let lease = ours.acquire_with_retry("x", LONG, Retry::FOREVER).await.unwrap();
            (Instant::now(), lease)
        }
    });
    sleep(Duration::from_millis(200)).await;
    let released_at = Instant::now();
    theirs.release(&lease).await.unwrap();
    let (granted_at, lease) = waiter.await.unwrap();
    ours.release(&lease).await.unwrap();
    granted_at - released_at
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_given_connection_locks_and_polls() {
    let server = Server::open().await;
    let (ours, theirs) = (given(&server).await, server.lock());
    assert_eq!(ours.capabilities().waiting, Waiting::Polled);
    assert!(hand_over(&ours, &theirs).await < Duration::from_millis(250) + SLACK);
    assert_eq!(server.channels().await, 0, "a poller does not subscribe");
    assert!(hand_over(&theirs, &ours).await < SLACK, "the other one is told");

    let lease = theirs.acquire(&id("x"), Duration::from_millis(60)).await.unwrap();
    let since = Instant::now();
    ours.wait(&id("x"), LONG).await.unwrap();
    assert!(since.elapsed() < SLACK, "it does not sleep past the expiry");
    assert!(lease.is_expired());
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_release_of_the_same_client_wakes_a_poller_at_once() {
    let server = Server::open().await;
    let ours = given(&server).await;
    let mut total = Duration::ZERO;
    for _ in 0..5 {
        total += hand_over(&ours, &ours).await;
    }
    assert!(total / 5 < Duration::from_millis(50), "{total:?} for five");
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_poller_notices_that_the_lock_changed_hands() {
    let server = Server::open().await;
    let (ours, theirs) = (given(&server).await, server.lock());
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    let sleeper = tokio::spawn({
        let ours = ours.clone();
        async move { ours.wait(&id("x"), LONG).await }
    });
    sleep(Duration::from_millis(100)).await;
    // Free for less than the pause between two looks.
    theirs.release(&lease).await.unwrap();
    let _next = theirs.acquire(&id("x"), LONG).await.unwrap();
    timeout(SLACK, sleeper).await.expect("not noticed").unwrap().unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn with_a_subscriber_it_is_woken() {
    let server = Server::open().await;
    let ours = given(&server).await.with_subscriber(server.client.clone());
    assert_eq!(ours.capabilities().waiting, Waiting::Pushed);
    let again = ours.clone().with_config(server.config()).unwrap();
    assert_eq!(again.capabilities().waiting, Waiting::Pushed, "settings keep the subscriber");
    let theirs = server.lock();
    let lease = theirs.acquire(&id("y"), LONG).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.wait(&id("y"), LONG).await }
    });
    eventually("a subscription", async || server.channels().await == 1).await;
    theirs.release(&lease).await.unwrap();
    waiter.await.unwrap().unwrap();
    let mut total = Duration::ZERO;
    for _ in 0..5 {
        total += hand_over(&ours, &theirs).await;
    }
    assert!(total / 5 < Duration::from_millis(50), "{total:?} for five");
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_given_connection_that_is_gone_says_so() {
    let server = Server::open().await;
    let mut connection = server.client.get_multiplexed_async_connection().await.unwrap();
    let number: u64 =
        glock_redis::redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await.unwrap();
    let lock = RedisLock::from_connection(connection).with_config(server.config()).unwrap();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let _killed: i64 = server.ask_with("CLIENT KILL ID", number).await;
    sleep(Duration::from_millis(50)).await;
    let err = lock.renew(&lease, LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
    assert!(matches!(server.lock().acquire(&id("x"), LONG).await, Err(LockError::Held { .. })));
}
