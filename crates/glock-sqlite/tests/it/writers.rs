//! Another program that keeps writing to the file.

use std::time::Duration;

use glock_harness::chain;
use glock_sqlite::{Fault, Lock, LockConfig, LockExt, LossReason, Retry};
use tokio::time::{sleep, timeout};

use crate::support::{
    LONG, SHORT, SOON,
    admin::{TestFile, run},
    pair, x,
};

const CALL_TIMEOUT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_writer_that_does_not_end_is_unavailable_and_nothing_changed() {
    let file = TestFile::new();
    let config = LockConfig::default().with_call_timeout(CALL_TIMEOUT);
    let lock = file.lock_with(config).await;
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    let mut writer = file.connect().await;
    run(&mut writer, "BEGIN IMMEDIATE").await;
    let (one, two, three) =
        tokio::join!(lock.try_hold("other", LONG), lock.renew(&lease, LONG), lock.release(&lease),);
    for err in [one.unwrap_err(), two.unwrap_err(), three.unwrap_err()] {
        assert_eq!(err.fault(), Some(Fault::Unavailable), "{}", chain(&err));
        assert!(chain(&err).contains("kept writing"), "{}", chain(&err));
    }
    // Readers do not wait.
    assert_eq!(lock.inspect(&x()).await.unwrap().unwrap().fence, lease.fence());
    run(&mut writer, "COMMIT").await;
    lock.release(&lease).await.unwrap();
    assert!(pair(&lock).await > lease.fence().get());
}

#[tokio::test]
async fn a_writer_for_a_while_ends_no_wait_and_costs_no_lock() {
    let file = TestFile::new();
    let (ours, theirs) = (file.lock().await, file.lock().await);
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let kept = theirs.hold("kept", LONG / 20, Retry::NEVER).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
    });
    sleep(SHORT).await;
    let mut writer = file.connect().await;
    for _ in 0..3 {
        run(&mut writer, "BEGIN IMMEDIATE").await;
        sleep(SHORT).await;
        run(&mut writer, "COMMIT").await;
    }
    run(&mut writer, "BEGIN IMMEDIATE").await;
    let released = tokio::spawn(async move { theirs.release(&held).await });
    sleep(SHORT).await;
    run(&mut writer, "COMMIT").await;
    released.await.unwrap().unwrap();
    let lease = timeout(SOON, waiter).await.unwrap().unwrap().unwrap();
    ours.release(&lease).await.unwrap();
    assert!(kept.is_valid());
    kept.release().await.unwrap();
}

#[tokio::test]
async fn a_guard_that_cannot_renew_is_lost_in_time() {
    let file = TestFile::new();
    let lock = file.lock().await;
    let guard = lock.hold("x", SHORT * 3, Retry::NEVER).await.unwrap();
    let mut writer = file.connect().await;
    run(&mut writer, "BEGIN IMMEDIATE").await;
    assert_eq!(timeout(SOON, guard.lost()).await.unwrap(), LossReason::Expired);
    run(&mut writer, "COMMIT").await;
}
