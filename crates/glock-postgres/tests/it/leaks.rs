//! Neither connections nor tasks nor grants are left behind.

use std::time::Duration;

use glock_postgres::Lock;
use glock_testing::process::settles;
use tokio::time::{sleep, timeout};

use crate::support::{
    LONG, SHORT, SOON,
    admin::{Admin, woken},
    pair, tasks, x,
};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_thousand_dropped_acquires_leave_a_pool_that_works() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    let idle = tasks();
    for n in 0..1_000_u64 {
        let patience = Duration::from_micros(n * 7 % 1_500);
        let _ = timeout(patience, lock.acquire(&x(), LONG)).await.map(|lease| {
            // Granted in time: its lease is forgotten, and the statement below ends the hold.
            lease.is_ok()
        });
        if n % 100 == 99 {
            admin.run("UPDATE {t} SET owner = NULL").await;
        }
    }
    settles("what the dropped acquires run", SOON, idle, async || tasks()).await;
    admin.run("UPDATE {t} SET owner = NULL").await;
    sleep(SHORT).await;
    assert!(lock.inspect(&x()).await.unwrap().is_none(), "a grant came late");
    pair(&lock).await;
    admin.until_connections_at_most(4).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn nothing_is_left_of_a_lock_that_is_dropped() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock().without_listener());
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    drop(admin.sleeping_waiter(&ours).await);
    assert!(tasks() > 0);
    let clone = ours.clone();
    drop(ours);
    sleep(SHORT).await;
    assert_eq!(admin.end_listening().await, 1, "a clone still listens");
    drop(clone);
    theirs.release(&held).await.unwrap();
    drop(theirs);
    admin.until_connections(0).await;
    admin.clean().await;
}

/// A clock that is moved, on a runtime of its own.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn the_listening_connection_is_closed_a_minute_after_the_last_waiter() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock().without_listener());
    let held = theirs.acquire(&x(), LONG * 60).await.unwrap();
    let waiter = admin.sleeping_waiter(&ours).await;
    for _ in 0..6 {
        forward(Duration::from_secs(30)).await;
        // A statement that the jump of the clock cut off is sent again.
        admin.until_listening(1).await;
    }
    assert_eq!(admin.end_listening().await, 1, "it stays while there is a waiter");
    sleep(SHORT).await;
    waiter.abort();
    let _ = waiter.await;
    let waiter = admin.sleeping_waiter(&ours).await;
    theirs.release(&held).await.unwrap();
    woken(waiter).await;
    admin.until_listening(1).await;
    for _ in 0..5 {
        forward(Duration::from_secs(16)).await;
    }
    admin.until_listening(0).await;
    // And it is made again.
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = admin.sleeping_waiter(&ours).await;
    theirs.release(&held).await.unwrap();
    woken(waiter).await;
    admin.clean().await;
}

async fn forward(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
    sleep(Duration::from_millis(30)).await;
}
