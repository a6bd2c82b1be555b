//! Guards: holds, renewals with the time that was left, and losses by reason.

use std::time::Duration;

use glock_core::{Action, Fault, Guard, LockExt, LossReason, Retry};
use glock_telemetry::{Instrumented, names};
use glock_testing::MemoryLock;
use tokio::time::sleep;

use glock_harness::telemetry::{Recorder, Via};

const TTL: Duration = Duration::from_secs(30);
const MEMORY: (&str, &str) = (names::BACKEND, "memory");

async fn held(via: Via) -> (Recorder, Instrumented<MemoryLock>, Guard) {
    let recorder = Recorder::new(via);
    let lock = recorder.watch(MemoryLock::new());
    let guard = lock.hold("x", TTL, Retry::NEVER).await.unwrap();
    (recorder, lock, guard)
}

/// Lets the guard's task act on what the guard was asked to do: its own pause may end a moment later.
async fn let_tasks_run() {
    sleep(Duration::from_millis(10)).await;
}

fn holds(recorder: &Recorder) -> i64 {
    recorder.point(names::HELD, &[MEMORY]).expect("a hold").count
}

/// Asserts that one hold has ended like that after so long.
fn assert_ended(recorder: &Recorder, outcome: &str, seconds: f64) {
    let point = recorder.point(names::HOLD_SECONDS, &[MEMORY, (names::OUTCOME, outcome)]);
    let point = point.unwrap_or_else(|| panic!("no hold was {outcome}"));
    assert_eq!(point.count, 1);
    assert!((point.sum - seconds).abs() < 0.5, "{outcome} after {} s", point.sum);
    assert_eq!(recorder.points(names::HOLD_SECONDS).len(), 1);
    assert_eq!(holds(recorder), 0);
}

fn assert_lost(recorder: &Recorder, reason: Option<LossReason>) {
    let reasons =
        [LossReason::Expired, LossReason::TakenAway, LossReason::MaxHold, LossReason::Stopped];
    for other in reasons {
        let point = recorder.point(names::LOST_TOTAL, &[MEMORY, (names::REASON, other.as_str())]);
        let count = point.expect("each reason is there from the first hold on").count;
        assert_eq!(count, i64::from(reason == Some(other)), "{other:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_is_counted_while_it_lasts() {
    for via in [Via::Layer, Via::Provider] {
        let (recorder, lock, guard) = held(via).await;
        assert_eq!(holds(&recorder), 1);
        let other = lock.hold("y", TTL, Retry::NEVER).await.unwrap();
        assert_eq!(holds(&recorder), 2);
        other.release().await.unwrap();
        recorder.point(names::HOLD_SECONDS, &[MEMORY, (names::OUTCOME, "released")]).unwrap();
        assert_eq!(holds(&recorder), 1);
        drop(guard);
        let_tasks_run().await;
        assert_eq!(holds(&recorder), 0);
        assert_lost(&recorder, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_tells_how_much_time_was_left() {
    let (recorder, _lock, guard) = held(Via::Layer).await;
    sleep(Duration::from_secs(25)).await;
    // The margin of 1 % is not the holder's: a third of 29.7 s is gone at each renewal.
    let margin = recorder.point(names::RENEW_MARGIN_SECONDS, &[MEMORY]).unwrap();
    assert_eq!(margin.count, 2);
    assert!((margin.sum - 2.0 * 19.8).abs() < 0.1, "{}", margin.sum);
    let ok = [MEMORY, (names::OUTCOME, "ok"), (names::SUCCESS, "true")];
    assert_eq!(recorder.point(names::RENEW_TOTAL, &ok).unwrap().count, 2);
    guard.release().await.unwrap();
    assert_ended(&recorder, names::RELEASED, 25.0);
    assert_eq!(recorder.point(names::RELEASE_TOTAL, &ok).unwrap().count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_was_taken_away_is_lost() {
    let (recorder, lock, guard) = held(Via::Layer).await;
    lock.get_ref().lose("x").unwrap();
    assert_eq!(guard.lost().await, LossReason::TakenAway);
    let_tasks_run().await;
    assert_lost(&recorder, Some(LossReason::TakenAway));
    assert_ended(&recorder, names::LOST, 9.9);
    let not_held = [MEMORY, (names::OUTCOME, "not_held"), (names::SUCCESS, "false")];
    assert_eq!(recorder.point(names::RENEW_TOTAL, &not_held).unwrap().count, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_cannot_be_renewed_is_lost_when_it_runs_out() {
    let (recorder, lock, guard) = held(Via::Layer).await;
    for _ in 0..100 {
        lock.get_ref().fail_next(Action::Renew, Fault::Unavailable);
    }
    assert_eq!(guard.lost().await, LossReason::Expired);
    let_tasks_run().await;
    assert_lost(&recorder, Some(LossReason::Expired));
    assert_ended(&recorder, names::LOST, 29.7);
    let failed = recorder.points(names::RENEW_TOTAL);
    assert!(failed[0].count > 3 && failed[0].attributes[names::REASON] == "unavailable");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_hangs_is_recorded_as_cancelled() {
    let (recorder, lock, guard) = held(Via::Layer).await;
    // Each hangs for the time limit of a call; the last is cut off by the deadline.
    for _ in 0..100 {
        lock.get_ref().hang_next(Action::Renew);
    }
    sleep(Duration::from_secs(12)).await;
    drop(guard);
    let_tasks_run().await;
    let cancelled = [MEMORY, (names::OUTCOME, "cancelled"), (names::SUCCESS, "false")];
    assert_eq!(recorder.point(names::RENEW_TOTAL, &cancelled).unwrap().count, 1);
    assert_ended(&recorder, names::RELEASED, 12.0);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_stuck_is_lost_to_its_limit() {
    let (recorder, _lock, guard) = held(Via::Layer).await;
    let guard = guard.with_max_hold(Duration::from_secs(5));
    assert_eq!(guard.lost().await, LossReason::MaxHold);
    let_tasks_run().await;
    assert_lost(&recorder, Some(LossReason::MaxHold));
    assert_ended(&recorder, names::LOST, 29.7);
}

#[test]
fn a_runtime_that_is_shut_down_loses_its_locks() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (recorder, _lock, guard) = runtime.block_on(held(Via::Layer));
    drop(runtime);
    assert!(!guard.is_valid());
    assert_lost(&recorder, Some(LossReason::Stopped));
    assert_ended(&recorder, names::LOST, 0.0);
}
