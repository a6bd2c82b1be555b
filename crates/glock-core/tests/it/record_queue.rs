//! A waiter in a queue that the store keeps beside the lock: what it sends, and when.

use std::time::Duration;

use glock_core::{Fault, LockError, Retry};
use tokio::time::{sleep, timeout};

use crate::queued_lock::{SECOND, Store, TTL, id, wait, waiting};

#[tokio::test(start_paused = true)]
async fn a_free_lock_takes_one_request_and_no_heartbeat() {
    let store = Store::default();
    store.0.lock().is_free = true;
    let (queue, registry, pending) = store.queue();
    assert!(queue.acquire(&id(), TTL, &Retry::within(Duration::ZERO)).await.is_ok());
    sleep(SECOND * 10).await;
    assert_eq!(store.sent(), "e");
    assert!(registry.is_empty() && pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_sends_one_request_to_join_and_one_to_claim() {
    let (store, _queue, registry, waiter) = waiting().await;
    let number = store.release().unwrap();
    registry.turn(number);
    let _granted = waiter.await.unwrap().unwrap();
    assert_eq!(store.sent(), "ee");
    sleep(SECOND * 10).await;
    assert_eq!(store.sent(), "ee", "no heartbeat without waiters");
}

/// What was notified before is missed.
#[tokio::test(start_paused = true)]
async fn the_first_waiter_looks_again_once_the_client_listens() {
    let store = Store::default();
    let (queue, _, _) = store.queue();
    let _waiter = wait(&queue, Retry::FOREVER);
    sleep(SECOND / 10).await;
    assert_eq!(store.sent(), "eh");
}

#[tokio::test(start_paused = true)]
async fn only_the_first_waiter_wakes_when_the_hold_runs_out() {
    let store = Store::default();
    (store.0.lock().listening, store.0.lock().free_in) = (true, Some(SECOND / 2));
    let (queue, _, _) = store.queue();
    let waiters: Vec<_> = (0..10).map(|_| wait(&queue, Retry::FOREVER)).collect();
    sleep(SECOND / 4).await;
    assert_eq!(store.sent().len(), waiters.len());
    store.0.lock().free_in = None;
    sleep(SECOND / 2).await;
    assert_eq!(store.sent().len(), waiters.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_leaves() {
    let (store, queue, registry, cancelled) = waiting().await;
    let timed_out = wait(&queue, Retry::within(SECOND / 10));
    assert!(matches!(timed_out.await.unwrap(), Err(LockError::Timeout { .. })));
    cancelled.abort();
    let _ = cancelled.await;
    sleep(SECOND / 10).await;
    assert_eq!((store.sent().matches('l').count(), store.0.lock().queue.len()), (2, 0));
    assert!(registry.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_is_pending_work() {
    let store = Store::default();
    let (queue, _, pending) = store.queue();
    let (id, retry) = (id(), Retry::FOREVER);
    let mut waiter = Box::pin(queue.acquire(&id, TTL, &retry));
    assert!(timeout(SECOND / 10, &mut waiter).await.is_err());
    drop(waiter);
    assert_eq!(pending.len(), 1);
    assert_eq!(pending.drained(SECOND).await, 0);
    assert!(store.sent().ends_with('l'));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_ends_no_wait_and_is_what_the_time_limit_reports() {
    let (store, queue, _, waiter) = waiting().await;
    let limited = wait(&queue, Retry::within(SECOND * 20));
    sleep(SECOND / 10).await;
    store.0.lock().down = Some(Fault::Unavailable);
    let sent_before = store.sent().len();
    let err = limited.await.unwrap().unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
    let sent = store.sent().split_off(sent_before);
    assert!(sent.len() <= 25, "waiters do not hammer it: {sent}");
    store.0.lock().down = None;
    store.release();
    assert!(timeout(SECOND * 5, waiter).await.unwrap().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_the_store_will_not_do_ends_a_wait() {
    let (store, _queue, _, waiter) = waiting().await;
    store.0.lock().down = Some(Fault::Rejected);
    let err = timeout(SECOND * 5, waiter).await.unwrap().unwrap().unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
}

/// The store says of the second request that it had no effect: the first one had.
#[tokio::test(start_paused = true)]
async fn a_place_is_given_up_although_a_later_request_has_failed() {
    let store = Store::default();
    store.0.lock().fails_once_joined = true;
    let (queue, _, pending) = store.queue();
    let timed_out = wait(&queue, Retry::within(SECOND / 2)).await.unwrap();
    assert!(timed_out.is_err());
    assert_eq!(pending.drained(SECOND).await, 0);
    assert!(store.0.lock().queue.is_empty(), "{}", store.sent());
}
