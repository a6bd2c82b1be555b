//! Waiting without a store that notifies.

use std::time::Duration;

use glock_dynamodb::{Clock, Fairness, Lock, LockExt, Retry, Waiting};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{BRIEF, LONG, SOON, admin::Admin, x};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn capabilities_say_that_it_polls_and_trusts_no_clock() {
    let capabilities = Admin::open().await.lock().capabilities();
    assert_eq!(capabilities.waiting, Waiting::Polled);
    assert_eq!(capabilities.clock, Clock::Observer);
    assert_eq!(capabilities.fairness, Fairness::Store);
    assert_eq!(capabilities.expiry_latest(BRIEF), 2 * BRIEF);
}

/// A release by the same client wakes its waiter at once, without a read.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_release_by_the_same_client_needs_no_read() {
    let (admin, ours, requests) = Admin::counted().await;
    let ours = ours.with_poll_max(LONG);
    // A pause may end just then, which costs a read; not each time.
    for _ in 0..20 {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        // It was held for long, so the pauses are long.
        sleep(Duration::from_millis(400)).await;
        let waiter = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await.unwrap() }
        });
        sleep(Duration::from_millis(20)).await;
        requests.take();
        ours.release(&lease).await.unwrap();
        let next = timeout(SOON, waiter).await.expect("it was not woken").unwrap();
        let sent = requests.take();
        ours.release(&next).await.unwrap();
        if sent.ends_with(&["UpdateItem".to_owned(), "UpdateItem".to_owned()]) {
            return admin.clean().await;
        }
    }
    panic!("each release needed a read");
}

/// It takes the lock over, although the holder has not released it.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_waiter_takes_the_lock_when_the_lease_it_watches_has_run_out() {
    let admin = Admin::bare().await;
    let ours = admin.lock();
    ours.create_table().await.unwrap();
    let theirs = admin.lock();
    drop(theirs.acquire(&x(), BRIEF).await.unwrap());
    let since = Instant::now();
    let lease = ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await.unwrap();
    assert!(since.elapsed() >= BRIEF && since.elapsed() < SOON, "{:?}", since.elapsed());
    ours.release(&lease).await.unwrap();
    admin.clean().await;
}
