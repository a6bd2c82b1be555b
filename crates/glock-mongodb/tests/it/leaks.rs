//! Neither streams nor connections nor tasks nor grants are left behind.

use std::time::Duration;

use glock_mongodb::{Lock, mongodb::bson::doc};
use glock_testing::process::{eventually, settles};
use tokio::time::{sleep, timeout};

use crate::support::{LONG, SHORT, SOON, admin::Admin, pair, sleeping_waiter, tasks, woken, x};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_thousand_dropped_acquires_leave_a_client_that_works() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    let idle = tasks();
    for n in 0..1_000_u64 {
        let patience = Duration::from_micros(n * 7 % 1_500);
        let _ = timeout(patience, lock.acquire(&x(), LONG)).await.map(|lease| {
            // Granted in time: its lease is forgotten, and the change below ends the hold.
            lease.is_ok()
        });
        if n % 100 == 99 {
            admin.change(doc! { "$set": { "owner": null } }).await;
        }
    }
    settles("what the dropped acquires run", SOON, idle, async || tasks()).await;
    admin.change(doc! { "$set": { "owner": null } }).await;
    sleep(SHORT).await;
    assert!(lock.inspect(&x()).await.unwrap().is_none(), "a grant came late");
    pair(&lock).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn nothing_is_left_of_a_lock_that_is_dropped() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    assert_eq!(admin.streams().await, 1);
    let clone = ours.clone();
    drop(ours);
    sleep(SHORT).await;
    assert_eq!(admin.streams().await, 1, "a clone still watches");
    waiter.abort();
    let _ = waiter.await;
    drop(clone);
    eventually("the stream is gone", SOON, async || admin.streams().await == 0).await;
    theirs.release(&held).await.unwrap();
    drop(theirs);
    eventually("no connection", SOON, async || admin.connections().await == 0).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "long: a minute without a waiter"]
async fn the_stream_is_closed_a_minute_after_the_last_waiter() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    theirs.release(&held).await.unwrap();
    woken(waiter).await;
    assert_eq!(admin.streams().await, 1, "it stays for the next waiter");
    eventually("the stream is closed", LONG * 2, async || admin.streams().await == 0).await;
    // And it is opened again.
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    theirs.release(&held).await.unwrap();
    woken(waiter).await;
    admin.clean().await;
}
