//! The server ends a connection: the next call makes another, and no sleeper is forgotten.

use std::time::Duration;

use glock_redis::{Lock, LockExt, RedisLock, Retry};
use glock_testing::process::eventually;
use tokio::time::{sleep, timeout};

use crate::support::{LONG, SOON, admin::Admin, id};

/// A client whose connections the server can tell apart by their user.
async fn lock_of_its_own(admin: &Admin) -> RedisLock {
    admin.lock_of(admin.user("allkeys allchannels +@all").await)
}

/// Kills the connections of [`lock_of_its_own`]. Returns how many there were.
async fn kill(admin: &Admin) -> usize {
    admin.ask_with("CLIENT KILL USER", &admin.namespace).await
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_client_has_one_connection_and_outlives_its_death() {
    let admin = Admin::open().await;
    let lock = lock_of_its_own(&admin).await;
    assert_eq!(kill(&admin).await, 0, "no connection before the first use");
    // With and without the time to notice.
    for pause in [0, 50] {
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        let _ = lock.wait(&id("x"), Duration::from_millis(10)).await;
        assert_eq!(kill(&admin).await, 1);
        sleep(Duration::from_millis(pause)).await;
        let lease = lock.renew(&lease, LONG).await.unwrap();
        assert_eq!(kill(&admin).await, 1);
        sleep(Duration::from_millis(pause)).await;
        lock.release(&lease).await.unwrap();
    }
    drop(lock);
    eventually("no connection", SOON, async || kill(&admin).await == 0).await;
    admin.delete_user().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_sleeper_whose_connection_is_killed_is_woken_by_the_release() {
    let admin = Admin::open().await;
    let (ours, theirs) = (lock_of_its_own(&admin).await, admin.lock());
    for _ in 0..3 {
        let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
        let waiter = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire_with_retry("x", LONG, Retry::FOREVER).await }
        });
        eventually("asleep", SOON, async || admin.channels().await == 1).await;
        assert_eq!(kill(&admin).await, 1);
        eventually("asleep again", SOON, async || admin.channels().await == 1).await;
        theirs.release(&lease).await.unwrap();
        let lease = timeout(SOON, waiter).await.expect("not woken").unwrap().unwrap();
        ours.release(&lease).await.unwrap();
    }
    admin.delete_user().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_release_without_a_subscriber_is_not_missed() {
    let admin = Admin::open().await;
    let (ours, theirs) = (lock_of_its_own(&admin).await, admin.lock());
    for _ in 0..10 {
        let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
        let sleeper = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire_with_retry("x", LONG, Retry::FOREVER).await }
        });
        eventually("asleep", SOON, async || admin.channels().await == 1).await;
        let (_, released) = tokio::join!(kill(&admin), theirs.release(&lease));
        released.unwrap();
        let lease = timeout(SOON, sleeper).await.expect("not woken").unwrap().unwrap();
        ours.release(&lease).await.unwrap();
    }
    admin.delete_user().await;
}
