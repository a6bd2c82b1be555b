//! A client that several runtimes share, one of which ends.

use std::{thread, time::Duration};

use glock_redis::{Lock, LockExt, Retry};
use glock_testing::process::eventually;
use tokio::{runtime::Builder, time::timeout};

use crate::support::{LONG, SOON, admin::Admin, id};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn waiters_outlive_the_runtime_of_the_first_one() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    // The connection belongs to this runtime, the task of its subscriptions to the other one.
    let lease = ours.acquire(&id("first"), LONG).await.unwrap();
    thread::spawn({
        let ours = ours.clone();
        move || {
            let other = Builder::new_current_thread().enable_all().build().unwrap();
            other.block_on(ours.wait(&id("first"), Duration::from_millis(200))).unwrap();
        }
    })
    .join()
    .unwrap();

    let next = theirs.acquire(&id("next"), LONG).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("next", LONG, Retry::FOREVER).await }
    });
    let subscribed = async || {
        let subscribers: (String, usize) = admin.ask_with("PUBSUB NUMSUB", admin.key("next")).await;
        subscribers.1 == 1
    };
    eventually("a subscription", SOON, subscribed).await;
    theirs.release(&next).await.unwrap();
    let next = timeout(SOON, waiter).await.expect("not woken").unwrap().unwrap();
    ours.release(&next).await.unwrap();
    ours.release(&lease).await.unwrap();
    eventually("no subscription", SOON, async || admin.channels().await == 0).await;
}
