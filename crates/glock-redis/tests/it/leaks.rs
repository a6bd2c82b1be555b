//! What is left in the store.

use std::time::Duration;

use glock_redis::{Lock, LockExt, Retry};
use glock_testing::{
    Fixture, fresh_namespace,
    process::{eventually, settles},
};

use crate::support::{LONG, SOON, admin::Admin, fixture::Redis, id};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_channel_is_given_up_when_no_waiter_sleeps_on_it() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let lease = theirs.acquire(&id("x"), LONG).await.unwrap();
    assert_eq!(admin.channels().await, 0, "there is no waiter");
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::FOREVER).await }
    });
    eventually("a subscription", SOON, async || admin.channels().await == 1).await;
    theirs.release(&lease).await.unwrap();
    let lease = waiter.await.unwrap().unwrap();
    eventually("no subscription", SOON, async || admin.channels().await == 0).await;
    ours.release(&lease).await.unwrap();

    for n in 0..200 {
        let _ = ours.wait(&id(&format!("x{n}")), Duration::from_millis(1)).await;
    }
    eventually("no subscription", SOON, async || admin.channels().await == 0).await;
}

/// The suite's count of what is left: what the README says stays does not count; all else does.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn what_is_left_is_counted() {
    let redis = Redis::open(fresh_namespace()).await;
    let (admin, lock) = (&redis.admin, redis.client().await);
    let stray = format!("{}:queue", admin.namespace);
    assert_eq!(redis.residue().await, 0);
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    assert_eq!(redis.residue().await, 1, "a hold");
    lock.release(&lease).await.unwrap();
    assert_eq!(redis.residue().await, 0, "a counter that expires stays");
    let () = admin.ask_with("PERSIST", admin.fence_key("x")).await;
    assert_eq!(redis.residue().await, 1, "a counter that never expires");
    redis.forget(&id("x")).await;
    let () = admin.ask_with("SET", (&stray, 1, "EX", 60)).await;
    assert_eq!(redis.residue().await, 1, "a key that the README does not name");
    let () = admin.ask_with("DEL", &stray).await;
    let mut subscriber = admin.client.get_async_pubsub().await.unwrap();
    subscriber.subscribe(admin.key("x")).await.unwrap();
    assert_eq!(redis.residue().await, 1, "a subscription");
    drop(subscriber);
    settles("what was planted", SOON, 0, async || redis.residue().await).await;
}
