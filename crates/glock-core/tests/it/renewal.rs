//! A guard keeps its lease alive, and reports its loss by the deadline at the latest.

use std::time::Duration;

use glock_core::{Action, Fault, Guard, LockError, LockExt, LossReason, Retry};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::scripted::{Answer, Scripted};

pub(crate) const TTL: Duration = Duration::from_secs(3);
/// The lease's deadline: the TTL less 1 %.
const DEADLINE: Duration = Duration::from_millis(2_970);
/// When a loss is reported: before the deadline by a lead that a busy machine's timers keep.
const REPORTED: Duration = Duration::from_millis(2_960);

pub(crate) async fn hold(lock: &Scripted) -> Guard {
    lock.hold("x", TTL, Retry::NEVER).await.unwrap()
}

/// When the guard reports its loss, and why.
async fn loss(guard: &Guard, from: Instant) -> (Duration, LossReason) {
    let reason = timeout(Duration::from_mins(10), guard.lost()).await.expect("a loss");
    (from.elapsed(), reason)
}

#[tokio::test(start_paused = true)]
async fn a_guard_outlives_its_first_ttl() {
    let lock = Scripted::default();
    let from = Instant::now();
    let guard = hold(&lock).await;
    sleep(Duration::from_mins(1)).await;
    assert!(guard.is_valid());
    assert!(guard.remaining() > TTL / 2);
    let renewals = lock.times(Action::Renew, from);
    assert!((58..=61).contains(&renewals.len()), "a third of the TTL apart: {renewals:?}");
    guard.release().await.unwrap();
    assert_eq!(lock.count(Action::Release), 1);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_is_given_up_at_the_deadline() {
    let lock = Scripted::default().renew_answers(&[Answer::Hangs]);
    let from = Instant::now();
    let guard = hold(&lock).await;
    assert_eq!(loss(&guard, from).await, (REPORTED, LossReason::Expired));
    assert!(!guard.is_valid());
    assert_eq!(guard.remaining(), Duration::ZERO);
}

/// A twentieth of the TTL ahead, from 2 ms to 10 ms: what timers are late by on a busy machine.
#[tokio::test(start_paused = true)]
async fn the_loss_of_a_short_lease_is_reported_ahead_of_its_deadline_too() {
    for (ttl, lead) in [(30, 2), (100, 5), (160, 8), (400, 10)] {
        let (ttl, lead) = (Duration::from_millis(ttl), Duration::from_millis(lead));
        let lock = Scripted::default().renew_answers(&[Answer::Hangs]);
        let from = Instant::now();
        let guard = lock.hold("x", ttl, Retry::NEVER).await.unwrap();
        let deadline = guard.remaining();
        let (after, reason) = loss(&guard, from).await;
        assert_eq!(reason, LossReason::Expired);
        // Timers count in milliseconds.
        let ahead = deadline.checked_sub(after).expect("a loss ahead of the deadline");
        assert!(ahead <= lead && ahead + Duration::from_millis(1) > lead, "{ahead:?} of {ttl:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn renewals_that_fail_at_once_for_ever_are_given_up_at_the_deadline() {
    for fault in [Fault::Unavailable, Fault::Unknown, Fault::Rejected] {
        let lock = Scripted::default().renew_answers(&[Answer::Fails(fault)]);
        let from = Instant::now();
        let guard = hold(&lock).await;
        assert_eq!(loss(&guard, from).await, (REPORTED, LossReason::Expired));
        let tries = lock.count(Action::Renew);
        assert!((3..=40).contains(&tries), "tried again, but not in a spin: {tries}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_refused_ends_the_hold_at_once() {
    let lock = Scripted::default().renew_answers(&[Answer::No]);
    let from = Instant::now();
    let guard = hold(&lock).await;
    assert_eq!(loss(&guard, from).await, (DEADLINE / 3, LossReason::TakenAway));
    assert!(!guard.is_valid());
    let released = guard.release().await;
    assert!(matches!(released, Err(LockError::NotHeld { .. })), "{released:?}");
    assert_eq!(lock.count(Action::Release), 0, "what the store took away is not released");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_recovers_keeps_the_hold() {
    let fails = Answer::Fails(Fault::Unavailable);
    let lock = Scripted::default().renew_answers(&[fails, fails, fails, Answer::Yes]);
    let guard = hold(&lock).await;
    sleep(Duration::from_secs(30)).await;
    assert!(guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_the_deadline_does_not_bring_the_hold_back() {
    let lock = Scripted::default().renew_answers(&[Answer::Late(TTL)]);
    let from = Instant::now();
    let guard = hold(&lock).await;
    assert_eq!(loss(&guard, from).await, (REPORTED, LossReason::Expired));
    let renewals = lock.count(Action::Renew);
    sleep(TTL * 3).await;
    assert!(!guard.is_valid());
    assert_eq!(lock.count(Action::Renew), renewals, "a lost lease is not renewed again");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_does_not_use_up_the_lease() {
    let lock = Scripted::default().renew_answers(&[Answer::Hangs, Answer::Yes]);
    let guard = hold(&lock).await;
    sleep(TTL * 10).await;
    assert!(guard.is_valid(), "the second renewal got its reply");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_beside_one_that_hangs_is_tried_again_when_it_fails() {
    let fails = Answer::Fails(Fault::Unavailable);
    let lock = Scripted::default().renew_answers(&[Answer::Hangs, fails, fails, Answer::Yes]);
    let guard = hold(&lock).await;
    sleep(TTL * 10).await;
    assert!(guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn the_reply_of_a_slow_store_keeps_the_hold() {
    // Three quarters of what the lease has left when it is renewed; what is sent beside it hangs.
    let lock = Scripted::default().renew_answers(&[Answer::Late(TTL / 2), Answer::Hangs]);
    let guard = hold(&lock).await;
    sleep(DEADLINE / 3 + TTL / 2 + Duration::from_millis(1)).await;
    assert!(guard.remaining() > TTL / 3, "{guard:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_renewal_counts_from_before_it_was_sent() {
    let lock = Scripted::default()
        .renew_answers(&[Answer::Late(Duration::from_millis(500)), Answer::Hangs]);
    let from = Instant::now();
    let guard = hold(&lock).await;
    // Sent at 0.99 s, so good until 0.99 s + 2.97 s, although the answer came at 1.49 s.
    assert_eq!(loss(&guard, from).await, (DEADLINE / 3 + REPORTED, LossReason::Expired));
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_the_store_ends_is_lost_at_once() {
    let lock = Scripted::default();
    let from = Instant::now();
    let guard = hold(&lock).await;
    sleep(Duration::from_millis(100)).await;
    lock.end();
    assert_eq!(loss(&guard, from).await, (Duration::from_millis(100), LossReason::TakenAway));
}

#[tokio::test(start_paused = true)]
async fn a_hold_that_the_store_ends_while_a_renewal_hangs_or_fails_is_lost_at_once() {
    for answer in [Answer::Hangs, Answer::Fails(Fault::Unavailable)] {
        let lock = Scripted::default().renew_answers(&[answer]);
        let from = Instant::now();
        let guard = hold(&lock).await;
        sleep(TTL / 2).await;
        lock.end();
        assert_eq!(loss(&guard, from).await, (TTL / 2, LossReason::TakenAway), "{answer:?}");
    }
}

/// To begin to watch may cost the store a look through its history.
#[tokio::test(start_paused = true)]
async fn one_watch_for_the_end_outlives_renewals() {
    let lock = Scripted::default();
    let guard = hold(&lock).await;
    sleep(TTL * 20).await;
    assert_eq!(lock.watches(), 1);
    lock.end();
    assert_eq!(guard.lost().await, LossReason::TakenAway);
}

#[tokio::test(start_paused = true)]
async fn a_wedged_holder_is_not_renewed_beyond_max_hold() {
    let lock = Scripted::default();
    let from = Instant::now();
    let guard = hold(&lock).await.with_max_hold(Duration::from_secs(10));
    let (after, reason) = loss(&guard, from).await;
    assert_eq!(reason, LossReason::MaxHold);
    assert!(
        after >= Duration::from_secs(10) && after <= Duration::from_secs(10) + TTL,
        "{after:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_is_tried_again_stops_at_max_hold() {
    let fails = Answer::Fails(Fault::Unavailable);
    let lock = Scripted::default().renew_answers(&[fails, fails, Answer::Yes]);
    let from = Instant::now();
    let guard = lock.hold("x", TTL * 10, Retry::NEVER).await.unwrap();
    let guard = guard.with_max_hold(Duration::from_secs(11));
    let (after, reason) = loss(&guard, from).await;
    assert_eq!(reason, LossReason::MaxHold);
    assert!(after <= TTL * 10, "renewed after the holder's time was up: {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_answers_after_max_hold_does_not_extend_the_hold() {
    // It begins a third into the TTL, after 9.9 s.
    let lock = Scripted::default().renew_answers(&[Answer::Late(Duration::from_secs(5))]);
    let from = Instant::now();
    let guard = lock.hold("x", TTL * 10, Retry::NEVER).await.unwrap();
    let guard = guard.with_max_hold(Duration::from_secs(12));
    assert_eq!(loss(&guard, from).await, (Duration::from_millis(29_690), LossReason::MaxHold));
}

#[tokio::test(start_paused = true)]
async fn validity_ends_at_the_deadline_even_if_nothing_runs() {
    let lock = Scripted::default().renew_answers(&[Answer::Hangs]);
    let guard = hold(&lock).await;
    // The clock jumps and no task has run: a starved runtime.
    advance(DEADLINE + Duration::from_millis(1)).await;
    assert!(!guard.is_valid());
}

#[test]
fn a_runtime_that_is_shut_down_ends_the_hold() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let guard = runtime.block_on(hold(&Scripted::default()));
    drop(runtime);
    assert!(!guard.is_valid());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(runtime.block_on(guard.lost()), LossReason::Stopped);
}

#[tokio::test(start_paused = true)]
async fn work_under_a_lock_is_dropped_when_the_lock_is_lost() {
    let lock = Scripted::default().renew_answers(&[Answer::Hangs]);
    let from = Instant::now();
    let done = lock.with_lock("x", TTL, Retry::NEVER, |_| std::future::pending::<()>()).await;
    assert!(matches!(done, Err(LockError::NotHeld { .. })), "{done:?}");
    assert_eq!(from.elapsed(), REPORTED);
}

#[tokio::test(start_paused = true)]
async fn work_under_a_lock_gives_its_result_and_releases() {
    let lock = Scripted::default();
    let done = lock.with_lock("x", TTL, Retry::NEVER, |hold| async move {
        sleep(TTL * 5).await;
        assert!(hold.is_valid());
        hold.fence().get()
    });
    assert_eq!(done.await.unwrap(), 1);
    assert_eq!(lock.count(Action::Release), 1);
}

#[tokio::test(start_paused = true)]
async fn guards_report_to_the_lock_what_it_cannot_see() {
    let lock = Scripted::default().renew_answers(&[Answer::Yes, Answer::No]);
    hold(&lock).await.release().await.unwrap();
    let guard = hold(&lock).await;
    guard.lost().await;
    drop(guard);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        lock.events(),
        [
            "waited granted",
            "hold started",
            "hold ended released",
            "waited granted",
            "hold started",
            "renewed",
            "hold ended taken_away"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_view_of_a_hold_ends_with_it() {
    let lock = Scripted::default();
    let guard = hold(&lock).await;
    let view = guard.view();
    assert!(view.is_valid());
    guard.release().await.unwrap();
    assert!(!view.is_valid());
    assert_eq!(view.ended().await, None);
}
