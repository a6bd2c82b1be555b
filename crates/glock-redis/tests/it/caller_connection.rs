//! Connections that the application manages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use glock_redis::{Fault, Lock, LockError, LockExt, RedisLock, Retry, Waiting};
use glock_testing::process::{eventually, rests};
use tokio::time::timeout;

use crate::support::{
    LONG, SOON,
    admin::Admin,
    fake_server::{FakeServer, Purpose, Then, held, purpose},
    foreign_lease, id,
};

async fn over_a_connection(admin: &Admin) -> RedisLock {
    let connection = admin.client.get_multiplexed_async_connection().await.unwrap();
    RedisLock::from_connection(connection).with_config(admin.config()).unwrap()
}

/// Hands the lock over to a waiter of `ours`, in far less than the lease's time.
async fn hand_over(ours: &RedisLock, theirs: &RedisLock) {
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::FOREVER).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    theirs.release(&lease).await.unwrap();
    let lease = timeout(SOON, waiter).await.expect("not handed over").unwrap();
    ours.release(&lease).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_caller_s_connection_locks_and_polls() {
    let admin = Admin::open().await;
    let (ours, theirs) = (over_a_connection(&admin).await, admin.lock());
    assert_eq!(ours.capabilities().waiting, Waiting::Polled);
    hand_over(&ours, &theirs).await;
    assert_eq!(admin.channels().await, 0, "a poller does not subscribe");
    hand_over(&theirs, &ours).await;

    let lease = theirs.acquire(&id("y"), Duration::from_millis(60)).await.unwrap();
    ours.wait(&id("y"), LONG).await.unwrap();
    assert!(lease.is_expired(), "it does not return before the expiry");
}

/// A poller, and its fake server: each look finds the lock held under `token` of the number of looks
/// before.
async fn poller(token: fn(usize) -> u64) -> (FakeServer, RedisLock) {
    let looks = Arc::new(AtomicUsize::new(0));
    let fake = FakeServer::start(move |sent| match purpose(sent)? {
        Purpose::Inspect => Some(held(token(looks.fetch_add(1, SeqCst)))),
        Purpose::Watch => Some(Then::Reply(":60000\r\n".into())),
        _ => Some(Then::Reply(":1\r\n".into())),
    })
    .await;
    let connection = fake.client("u", "p").get_multiplexed_async_connection().await.unwrap();
    (fake, RedisLock::from_connection(connection))
}

#[tokio::test]
async fn a_release_of_the_same_client_wakes_a_poller_at_once() {
    let (fake, lock) = poller(|_| 7).await;
    let sleeper = tokio::spawn({
        let lock = lock.clone();
        async move { lock.wait(&id("x"), LONG).await }
    });
    eventually("a look", SOON, async || fake.count(Purpose::Inspect) > 0).await;
    lock.release(&foreign_lease()).await.unwrap();
    // The server still says that the lock is held: no look can have ended the wait.
    timeout(SOON, sleeper).await.expect("not woken").unwrap().unwrap();
}

#[tokio::test]
async fn a_poller_notices_that_the_lock_changed_hands() {
    // It is free for less than the pause between two looks.
    let (fake, lock) = poller(|looks| if looks < 2 { 7 } else { 8 }).await;
    timeout(SOON, lock.wait(&id("x"), LONG)).await.expect("not noticed").unwrap();
    assert_eq!(fake.count(Purpose::Inspect), 3);
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn with_a_subscriber_it_is_woken() {
    let admin = Admin::open().await;
    let ours = over_a_connection(&admin).await.with_subscriber(admin.client.clone());
    assert_eq!(ours.capabilities().waiting, Waiting::Pushed);
    let again = ours.clone().with_config(admin.config()).unwrap();
    assert_eq!(again.capabilities().waiting, Waiting::Pushed, "settings keep the subscriber");
    let theirs = admin.lock();
    for _ in 0..3 {
        let lease = theirs.acquire(&id("y"), LONG).await.unwrap();
        let waiter = tokio::spawn({
            let ours = ours.clone();
            async move { ours.wait(&id("y"), LONG).await }
        });
        eventually("a subscription", SOON, async || admin.channels().await == 1).await;
        theirs.release(&lease).await.unwrap();
        timeout(SOON, waiter).await.expect("not woken").unwrap().unwrap();
        hand_over(&ours, &theirs).await;
    }
}

/// Its connection leads to a server whose every reply is that the lock is held: a message alone can end
/// the wait.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn with_a_subscriber_it_does_not_poll() {
    let admin = Admin::open().await;
    let (fake, ours) = poller(|_| 7).await;
    let ours = ours.with_subscriber(admin.client.clone()).with_config(admin.config()).unwrap();
    let waiter = tokio::spawn(async move { ours.wait(&id("x"), LONG).await });
    eventually("a request", SOON, async || fake.count(Purpose::Watch) > 0).await;
    // A poller looks again within a quarter of a second.
    rests("requests", Duration::from_secs(1), SOON, || fake.count(Purpose::Watch)).await;
    assert!(!waiter.is_finished() && fake.count(Purpose::Inspect) == 0, "it does not wait");
    let channels: Vec<String> =
        admin.ask_with("PUBSUB CHANNELS", format!("{}:*", admin.namespace)).await;
    let received: usize = admin.ask_with("PUBLISH", (&channels[0], admin.key("x"))).await;
    assert_eq!(received, 1);
    timeout(SOON, waiter).await.expect("not woken").unwrap().unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_caller_s_connection_that_is_gone_is_an_error() {
    let admin = Admin::open().await;
    let mut connection = admin.client.get_multiplexed_async_connection().await.unwrap();
    let number: u64 =
        glock_redis::redis::cmd("CLIENT").arg("ID").query_async(&mut connection).await.unwrap();
    let lock = RedisLock::from_connection(connection).with_config(admin.config()).unwrap();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    let _killed: i64 = admin.ask_with("CLIENT KILL ID", number).await;
    let err = lock.renew(&lease, LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
    assert!(matches!(admin.lock().acquire(&id("x"), LONG).await, Err(LockError::Held { .. })));
}
