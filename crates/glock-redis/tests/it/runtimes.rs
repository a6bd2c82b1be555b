//! A client that several runtimes share, one of which ends.

use std::{
    sync::mpsc::{Sender, channel},
    thread,
    time::Duration,
};

use glock_redis::{Lock, LockExt, RedisLock, Retry};
use glock_testing::process::eventually;
use tokio::{
    runtime::Builder,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::support::{LONG, SOON, admin::Admin, id};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn waiters_outlive_the_runtime_of_the_first_one() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    // The connection belongs to this runtime, the task of its subscription to the other one.
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
    let queued = async || admin.ask_with::<usize>("EXISTS", admin.queue_key("next")).await == 1;
    eventually("a waiter in the queue", SOON, queued).await;
    theirs.release(&next).await.unwrap();
    let next = timeout(SOON, waiter).await.expect("not woken").unwrap().unwrap();
    ours.release(&next).await.unwrap();
    ours.release(&lease).await.unwrap();
    eventually("no subscription", SOON, async || admin.channels().await == 0).await;
}

/// Acquires a lock on a runtime of another thread, which then computes until the sender is dropped. So
/// what lives on that runtime makes no progress.
async fn computing(
    lock: &RedisLock,
    then: impl Future<Output = ()> + Send + 'static,
) -> Sender<()> {
    let (lock, (done, until)) = (lock.clone(), channel());
    let (computes, begun) = oneshot::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let lease = lock.acquire(&id("first"), LONG).await.unwrap();
            then.await;
            computes.send(()).unwrap();
            // It blocks the thread.
            let _ = until.recv();
            let _ = lock.release(&lease).await;
        });
    });
    begun.await.unwrap();
    done
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_guard_lives_while_the_runtime_of_its_connection_computes() {
    const TTL: Duration = Duration::from_secs(4);
    let admin = Admin::open().await;
    let lock = admin.lock();
    let computing = computing(&lock, std::future::ready(())).await;
    let guard = lock.hold("x", TTL, Retry::within(SOON)).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < TTL * 2 {
        assert!(guard.is_valid(), "lost after {:?}", began.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    drop(computing);
    guard.release().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration redis`"]
async fn a_waiter_is_served_while_the_runtime_of_its_subscription_computes() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let held = theirs.acquire(&id("x"), LONG).await.unwrap();
    let (connected, begins) = oneshot::channel();
    let (asleep, sleeps) = oneshot::channel();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move {
            begins.await.unwrap();
            ours.acquire_with_retry("x", LONG, Retry::FOREVER).await
        }
    });
    // The other runtime makes the connection, and serves it until the waiter sleeps.
    let computing = tokio::spawn({
        let ours = ours.clone();
        async move {
            computing(&ours, async move {
                connected.send(()).unwrap();
                sleeps.await.unwrap();
            })
            .await
        }
    });
    eventually("asleep", SOON, async || admin.channels().await == 1).await;
    asleep.send(()).unwrap();
    let computing = computing.await.unwrap();
    theirs.release(&held).await.unwrap();
    let lease = timeout(SOON, waiter).await.expect("not served").unwrap().unwrap();
    drop(computing);
    ours.release(&lease).await.unwrap();
}
