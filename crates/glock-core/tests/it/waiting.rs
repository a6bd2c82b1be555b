//! Waiting for a lock: tries, pauses, time limits, and the queue of one client's waiters.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, Fault, Lock, LockError, LockExt, LockId, Retry, toolkit::LockHooks};
use tokio::time::{Instant, sleep, timeout};

use crate::scripted::{Answer, Scripted};

const TTL: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn never_means_one_try() {
    let lock = Scripted::default().acquire_answers(&[Answer::No]);
    let result = lock.acquire_with_retry("x", TTL, Retry::NEVER).await;
    assert!(matches!(result, Err(LockError::Held { .. })), "{result:?}");
    assert_eq!((lock.count(Action::Acquire), lock.count(Action::Wait)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn out_of_retries_is_held() {
    let lock = Scripted::default().acquire_answers(&[Answer::No]);
    let from = Instant::now();
    let retry = Retry::times(3, Duration::from_secs(1)).with_jitter_percent(0);
    let result = lock.acquire_with_retry("x", TTL, retry).await;
    assert!(matches!(result, Err(LockError::Held { .. })), "{result:?}");
    assert_eq!(lock.count(Action::Acquire), 4);
    assert_eq!(from.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn out_of_time_is_timeout_after_one_last_try() {
    let lock = Scripted::default().acquire_answers(&[Answer::No]);
    let from = Instant::now();
    let result = lock.acquire_with_retry("x", TTL, Retry::within(Duration::from_secs(5))).await;
    assert!(matches!(result, Err(LockError::Timeout { .. })), "{result:?}");
    assert_eq!(lock.times(Action::Acquire, from), [Duration::ZERO, Duration::from_secs(5)]);
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_is_followed_by_a_try() {
    let lock = Scripted::default().acquire_answers(&[Answer::No, Answer::Yes]);
    let from = Instant::now();
    let waiter = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire_with_retry("x", TTL, Retry::FOREVER).await.map(drop) }
    });
    sleep(Duration::from_secs(2)).await;
    lock.wake();
    waiter.await.unwrap().unwrap();
    assert_eq!(lock.times(Action::Acquire, from), [Duration::ZERO, Duration::from_secs(2)]);
}

#[tokio::test(start_paused = true)]
async fn only_the_first_in_the_queue_sends_requests() {
    let lock = Scripted::default().acquire_answers(&[Answer::No]);
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let lock = lock.clone();
            tokio::spawn(async move {
                lock.acquire_with_retry("x", TTL, Retry::FOREVER).await.map(drop)
            })
        })
        .collect();
    sleep(Duration::from_secs(10)).await;
    assert_eq!((lock.count(Action::Acquire), lock.count(Action::Wait)), (1, 1));
    assert_eq!(lock.queue().unwrap().len(), 1);
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
    sleep(Duration::from_millis(1)).await;
    assert!(lock.queue().unwrap().is_empty(), "waiters that are gone leave no queue behind");
    assert!(lock.events().iter().all(|event| event == "waited cancelled"));
    assert_eq!(lock.events().len(), 100);
}

#[tokio::test(start_paused = true)]
async fn time_spent_in_the_queue_counts() {
    let lock = Scripted::default().acquire_answers(&[Answer::No]);
    let first = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire_with_retry("x", TTL, Retry::FOREVER).await.map(drop) }
    });
    sleep(Duration::from_millis(1)).await;
    let from = Instant::now();
    let result = lock.acquire_with_retry("x", TTL, Retry::within(Duration::from_secs(2))).await;
    assert!(matches!(result, Err(LockError::Timeout { .. })), "{result:?}");
    assert_eq!(from.elapsed(), Duration::from_secs(2));
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_is_tried_again_in_ever_longer_pauses() {
    let lock = Scripted::default().acquire_answers(&[Answer::Fails(Fault::Unavailable)]);
    let result = lock.acquire_with_retry("x", TTL, Retry::within(Duration::from_secs(10))).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Unavailable), "the failure, not a timeout");
    let tries = lock.count(Action::Acquire);
    assert!((5..=20).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn what_another_try_cannot_mend_is_returned_at_once() {
    let lock = Scripted::default().acquire_answers(&[Answer::Fails(Fault::Rejected)]);
    let from = Instant::now();
    let result = lock.acquire_with_retry("x", TTL, Retry::FOREVER).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Rejected));
    assert_eq!(from.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn bad_arguments_reach_no_store() {
    let lock = Scripted::default();
    let zero_pause = Retry::times(1, Duration::ZERO);
    for result in [
        lock.acquire_with_retry("", TTL, Retry::FOREVER).await,
        lock.acquire_with_retry("x", Duration::ZERO, Retry::FOREVER).await,
        lock.acquire_with_retry("x", Duration::MAX, Retry::FOREVER).await,
        lock.acquire_with_retry("x", TTL, zero_pause).await,
        lock.acquire_with_retry("x", TTL, Retry::FOREVER.with_jitter_percent(200)).await,
    ] {
        assert!(matches!(result, Err(LockError::Invalid { .. })), "{result:?}");
    }
    assert_eq!(lock.count(Action::Acquire), 0);
}

#[tokio::test(start_paused = true)]
async fn enormous_limits_do_not_overflow() {
    let retry = Retry::within(Duration::MAX).with_pause_max(Duration::MAX);
    let lock = Scripted::default().acquire_answers(&[Answer::No]);
    let waiting = lock.acquire_with_retry("x", TTL, retry);
    assert!(timeout(Duration::from_hours(1), waiting).await.is_err());
    let retry = Retry::times(u32::MAX, Duration::MAX);
    let waiting = lock.acquire_with_retry("x", TTL, retry);
    assert!(timeout(Duration::from_hours(1), waiting).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn pointers_forward_the_inner_lock_s_own_methods() {
    let lock = Scripted::default().acquire_answers(&[Answer::No]);
    let pointers: [Arc<dyn Lock>; 2] = [Arc::new(lock.clone()), Arc::new(Box::new(lock.clone()))];
    for pointer in pointers {
        assert!(pointer.queue().is_some());
        let id = LockId::new("x").unwrap();
        let result =
            pointer.acquire_with_retry(id, TTL, Retry::within(Duration::from_secs(1))).await;
        assert!(matches!(result, Err(LockError::Timeout { .. })), "{result:?}");
        assert!(pointer.hold("x", TTL, Retry::NEVER).await.is_err(), "a dyn lock can be held, too");
    }
    assert_eq!(lock.events().len(), 4);
}
