//! The heartbeats of a client's waiters: what they keep, and what they find.

use std::{collections::BTreeSet, sync::Arc};

use glock_core::{Retry, toolkit::RESERVED_FOR};
use tokio::time::{sleep, timeout};

use crate::queued_lock::{SECOND, Store, wait, waiting};

#[tokio::test(start_paused = true)]
async fn one_heartbeat_a_second_is_for_all_waiters_of_a_client() {
    let store = Store::default();
    store.0.lock().listening = true;
    let (queue, _, _) = store.queue();
    let waiters: Vec<_> = (0..100).map(|_| wait(&queue, Retry::FOREVER)).collect();
    sleep(SECOND * 30).await;
    let beats = store.sent().matches('h').count();
    assert!((25..=31).contains(&beats), "{beats}");
    assert_eq!(store.sent().matches('e').count(), waiters.len(), "no request of its own");
    let last = store.0.lock().beats.last().cloned().unwrap();
    assert_eq!(BTreeSet::from_iter(last.numbers).len(), waiters.len());
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_notification_was_lost_is_found_by_the_next_heartbeat() {
    let (store, _queue, _, waiter) = waiting().await;
    store.release();
    assert!(timeout(RESERVED_FOR, waiter).await.unwrap().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_interruption_of_notifications_is_looked_into_at_once() {
    let (store, _queue, registry, waiter) = waiting().await;
    store.release();
    registry.missed();
    assert!(timeout(SECOND / 10, waiter).await.unwrap().unwrap().is_ok());
    assert_eq!(store.sent(), "ehe");
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_place_is_lost_joins_again() {
    let (store, _queue, registry, waiter) = waiting().await;
    store.0.lock().queue.clear();
    sleep(SECOND * 2).await;
    let number = store.release().expect("it has joined again");
    registry.turn(number);
    assert!(timeout(SECOND, waiter).await.unwrap().unwrap().is_ok());
}

/// The runtime that sends the heartbeats computes, and does not get to it.
#[tokio::test]
async fn heartbeats_go_on_where_another_waiter_is_awake() {
    let store = Store::default();
    store.0.lock().listening = true;
    let (queue, ..) = store.queue();
    let (end, until) = std::sync::mpsc::channel::<()>();
    let computes = std::thread::spawn({
        let queue = Arc::clone(&queue);
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let _waiter = wait(&queue, Retry::FOREVER);
                sleep(SECOND / 10).await;
                // It blocks the thread.
                let _ = until.recv();
            });
        }
    });
    while store.sent().is_empty() {
        sleep(SECOND / 100).await;
    }
    let _waiter = wait(&queue, Retry::FOREVER);
    let two = async {
        while store.sent().matches('h').count() < 2 {
            sleep(SECOND / 10).await;
        }
    };
    timeout(SECOND * 30, two).await.expect("no heartbeat");
    drop(end);
    computes.join().unwrap();
}

/// Requests of one waiter keep the client alive, and show nothing of the others.
#[tokio::test(start_paused = true)]
async fn a_lost_place_is_found_while_others_of_the_client_come_and_go() {
    let (store, queue, _, _waiter) = waiting().await;
    let number = store.0.lock().queue.pop_front().expect("it is in the queue");
    for _ in 0..40 {
        let another = wait(&queue, Retry::FOREVER);
        sleep(SECOND / 5).await;
        another.abort();
    }
    assert!(store.0.lock().queue.contains(&number), "it has not joined again");
}
