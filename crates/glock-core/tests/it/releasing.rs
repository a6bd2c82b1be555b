//! A guard releases its lock, however it ends.

use std::time::Duration;

use glock_core::{Action, Fault, LockError, LockExt, Retry};
use tokio::time::{sleep, timeout};

use crate::{
    renewal::{TTL, hold},
    scripted::{Answer, Scripted},
};

#[tokio::test(start_paused = true)]
async fn a_dropped_guard_releases() {
    let lock = Scripted::default();
    drop(hold(&lock).await);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(lock.count(Action::Release), 1);
    sleep(TTL * 3).await;
    assert_eq!(lock.count(Action::Renew), 0, "no renewal survives the guard");
}

#[tokio::test(start_paused = true)]
async fn a_guard_dropped_while_it_renews_releases() {
    let lock = Scripted::default().renew_answers(&[Answer::Hangs]);
    let guard = hold(&lock).await;
    sleep(TTL / 2).await;
    assert_eq!(lock.count(Action::Renew), 1);
    drop(guard);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(lock.count(Action::Release), 1);
}

#[tokio::test(start_paused = true)]
async fn a_release_that_fails_is_reported_and_tried_again() {
    let fails = Answer::Fails(Fault::Unavailable);
    // Soon, however long the lease lasts.
    for ttl in [TTL, Duration::from_hours(24)] {
        let lock = Scripted::default().release_answers(&[fails, fails, Answer::Yes]);
        let released = lock.hold("x", ttl, Retry::NEVER).await.unwrap().release().await;
        assert!(matches!(released, Err(LockError::Backend { .. })), "{released:?}");
        sleep(Duration::from_secs(11)).await;
        assert_eq!(lock.count(Action::Release), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_dropped_is_carried_out() {
    let lock = Scripted::default().release_answers(&[Answer::Late(Duration::from_millis(100))]);
    let guard = hold(&lock).await;
    assert!(timeout(Duration::from_millis(1), guard.release()).await.is_err());
    sleep(Duration::from_millis(1)).await;
    assert_eq!(lock.count(Action::Release), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_hold_is_released_once_its_guard_is_gone() {
    let lock = Scripted::default().renew_answers(&[Answer::Hangs]);
    let guard = hold(&lock).await;
    guard.lost().await;
    assert_eq!(lock.count(Action::Release), 0, "the holder may still be at work");
    drop(guard);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(lock.count(Action::Release), 1, "the renewal that hung may have gone through");
}
