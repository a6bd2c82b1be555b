//! `drain` waits for the releases and undos that are under way, and for nothing else.

use std::{future::ready, time::Duration};

use glock_core::{
    Action, Fault, LockError, LockExt, LockId, Retry, backend,
    toolkit::{Call, PendingWork},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    fn_attempt::FnAttempt,
    renewal::{TTL, hold},
    scripted::{Answer, Scripted},
};

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn it_waits_for_dropped_guards_and_returns_as_soon_as_they_are_released() {
    let lock = Scripted::default().release_answers(&[Answer::Late(SECOND)]);
    for _ in 0..3 {
        drop(hold(&lock).await);
    }
    let from = Instant::now();
    assert_eq!(lock.clone().drain(SECOND * 10).await, 0);
    assert_eq!((from.elapsed(), lock.count(Action::Release)), (SECOND, 3));
}

#[tokio::test(start_paused = true)]
async fn it_says_what_is_left_once_its_time_is_up() {
    let lock = Scripted::default().release_answers(&[Answer::Hangs, Answer::Hangs, Answer::Yes]);
    let (one, two, three) = (hold(&lock).await, hold(&lock).await, hold(&lock).await);
    let releasing = tokio::spawn(one.release());
    drop((two, three));
    let from = Instant::now();
    assert_eq!(lock.drain(SECOND).await, 2);
    assert_eq!(from.elapsed(), SECOND);
    releasing.abort();
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_tried_again_is_waited_for() {
    let fails = Answer::Fails(Fault::Unavailable);
    let lock = Scripted::default().release_answers(&[fails, fails, Answer::Yes]);
    assert!(hold(&lock).await.release().await.is_err());
    assert_eq!(lock.drain(TTL).await, 0);
    assert_eq!(lock.count(Action::Release), 3);
}

#[tokio::test(start_paused = true)]
async fn a_guard_that_is_alive_is_not_waited_for() {
    let lock = Scripted::default();
    let guard = hold(&lock).await;
    let from = Instant::now();
    assert_eq!((lock.drain(SECOND).await, from.elapsed()), (0, Duration::ZERO));
    assert!(guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn a_lost_hold_whose_guard_was_dropped_is_waited_for() {
    let lock = Scripted::default().renew_answers(&[Answer::Hangs]);
    let guard = hold(&lock).await;
    guard.lost().await;
    drop(guard);
    assert_eq!(lock.drain(SECOND).await, 0);
    assert_eq!(lock.count(Action::Release), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_forwarded_by_pointers() {
    let lock = Scripted::default().release_answers(&[Answer::Hangs]);
    drop(lock.hold("x", TTL, Retry::NEVER).await);
    let shared: std::sync::Arc<dyn glock_core::Lock> = std::sync::Arc::new(lock);
    assert_eq!(shared.drain(SECOND).await, 1);
    assert_eq!(Box::new(shared).drain(SECOND).await, 1);
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_the_undo_of_an_acquire_without_a_caller_or_a_reply() {
    let id = || LockId::new("x").unwrap();
    let lost = || LockError::backend(backend::MEMORY, Action::Acquire, Fault::Unknown, "cut");
    let work = PendingWork::new();
    let call = || Call::new(&work, backend::MEMORY, Action::Acquire, LIMIT);
    let absent = move || ready(Err(LockError::NotHeld { id: id() }));
    let acquire = |takes: Duration| {
        let attempt = async move {
            sleep(takes).await;
            Err(lost())
        };
        call().acquire(TTL, FnAttempt::new(attempt, absent))
    };
    assert!(timeout(SECOND, acquire(SECOND * 2)).await.is_err());
    assert!(acquire(Duration::ZERO).await.is_err());
    assert_eq!(work.len(), 2);
    let from = Instant::now();
    assert_eq!(work.drained(LIMIT * 4).await, 0);
    assert_eq!(from.elapsed(), SECOND + LIMIT, "as long as the request may arrive");
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_a_release_and_not_for_a_read() {
    let work = PendingWork::new();
    for (action, left) in [(Action::Inspect, 0), (Action::Renew, 0), (Action::Release, 1)] {
        let slow = async {
            sleep(SECOND).await;
            Ok(())
        };
        let running = tokio::spawn(Call::new(&work, backend::MEMORY, action, LIMIT).run(slow));
        sleep(SECOND / 2).await;
        assert_eq!(work.len(), left, "{action}: with its caller");
        running.abort();
        sleep(SECOND / 4).await;
        assert_eq!(work.len(), left, "{action}: without its caller");
        assert_eq!(work.drained(SECOND).await, 0);
    }
}
