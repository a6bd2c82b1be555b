//! Waits: how long and with what end, and that each try is seen.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use glock_core::{Action, Fault, Lock, LockError, LockExt, LockId, Retry};
use glock_harness::telemetry::{Recorder, Via, attributes};
use glock_telemetry::names;
use glock_testing::MemoryLock;
use tokio::time::{sleep, timeout};

use crate::odd::Odd;

const TTL: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

/// Runs `work` beside a holder that lets go of the lock `x` after two seconds.
async fn beside_a_holder<F: Future>(store: &MemoryLock, work: F) -> F::Output {
    let id = LockId::new("x").unwrap();
    let lease = store.acquire(&id, TTL).await.unwrap();
    let holder = async {
        sleep(2 * SECOND).await;
        store.release(&lease).await.unwrap();
    };
    tokio::join!(holder, work).1
}

fn assert_waited(recorder: &Recorder, backend: &str, end: &str, seconds: f64) {
    let labels = [(names::BACKEND, backend), (names::OUTCOME, end)];
    let point = recorder.point(names::WAIT_SECONDS, &labels);
    let point = point.unwrap_or_else(|| panic!("no wait that {end}"));
    assert_eq!(point.count, 1, "{end}");
    assert!((point.sum - seconds).abs() < 0.1, "{end}: {} s", point.sum);
    assert_eq!(recorder.points(names::WAIT_SECONDS).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_granted_shows_each_try() {
    let (recorder, store) = (Recorder::new(Via::Layer), MemoryLock::new());
    let lock = recorder.watch(store.clone());
    let guard = beside_a_holder(&store, lock.hold("x", TTL, Retry::FOREVER)).await.unwrap();
    assert_waited(&recorder, "memory", "granted", 2.0);
    let names: Vec<_> = recorder.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["memory_lock.acquire", "memory_lock.wait", "memory_lock.acquire"]);
    let tries: Vec<_> = recorder
        .spans_named("memory_lock.acquire")
        .iter()
        .map(|span| attributes(&span.attributes)[names::OUTCOME].clone())
        .collect();
    assert_eq!(tries, ["held", "ok"]);
    guard.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_runs_out_gave_up() {
    let (recorder, store) = (Recorder::new(Via::Layer), MemoryLock::new());
    let lock = recorder.watch(store.clone());
    let waited = beside_a_holder(&store, lock.hold("x", TTL, Retry::within(SECOND))).await;
    assert!(matches!(waited, Err(LockError::Timeout { .. })));
    assert_waited(&recorder, "memory", "gave_up", 1.0);
}

#[tokio::test(start_paused = true)]
async fn counted_retries_are_seen_as_well() {
    let (recorder, store) = (Recorder::new(Via::Layer), MemoryLock::new());
    let lock = recorder.watch(store.clone());
    let retry = Retry::times(2, SECOND / 2).with_jitter_percent(0);
    let waited = beside_a_holder(&store, lock.acquire_with_retry("x", TTL, retry)).await;
    assert!(matches!(waited, Err(LockError::Held { .. })));
    assert_waited(&recorder, "memory", "gave_up", 1.0);
    let held = [(names::BACKEND, "memory"), (names::OUTCOME, "held"), (names::SUCCESS, "false")];
    assert_eq!(recorder.point(names::ACQUIRE_TOTAL, &held).unwrap().count, 3);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_the_store_refuses_failed() {
    let (recorder, store) = (Recorder::new(Via::Layer), MemoryLock::new());
    let lock = recorder.watch(store.clone());
    store.fail_next(Action::Acquire, Fault::Rejected);
    lock.acquire_with_retry("x", TTL, Retry::FOREVER).await.unwrap_err();
    assert_waited(&recorder, "memory", "failed", 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_was_cancelled() {
    let (recorder, store) = (Recorder::new(Via::Layer), MemoryLock::new());
    let lock = recorder.watch(store.clone());
    let wait = timeout(SECOND, lock.hold("x", TTL, Retry::FOREVER));
    assert!(beside_a_holder(&store, wait).await.is_err());
    assert_waited(&recorder, "memory", "cancelled", 1.0);
    let asleep = recorder.span("memory_lock.wait");
    assert_eq!(attributes(&asleep.attributes)[names::OUTCOME], "cancelled");
}

/// In a store's own queue there is one long try: no latency, which would say nothing about the
/// store.
#[tokio::test(start_paused = true)]
async fn a_place_in_the_stores_queue_is_one_try_and_a_wait() {
    for (retry, outcome, end, seconds) in [
        (Retry::FOREVER, "ok", "granted", 2.0),
        (Retry::within(SECOND), "timeout", "gave_up", 1.0),
        (Retry::within(3 * SECOND), "error", "failed", 0.0),
        (Retry::FOREVER, "cancelled", "cancelled", 1.0),
    ] {
        let (recorder, store) = (Recorder::new(Via::Layer), MemoryLock::new());
        let odd = Odd::new(store.clone());
        let lock = recorder.watch(odd.clone());
        let wait = async {
            if outcome == "error" {
                store.fail_next(Action::Acquire, Fault::Rejected);
            }
            let wait = lock.acquire_with_retry("x", TTL, retry);
            let limit = if outcome == "cancelled" { SECOND } else { 9 * SECOND };
            timeout(limit, wait).await.map(|result| result.map(drop))
        };
        drop(beside_a_holder(&store, wait).await);

        assert_eq!(odd.seen.within.load(Relaxed), 1, "{outcome}: the store's queue was used");
        assert_waited(&recorder, "tape", end, seconds);
        let tries = recorder.points(names::ACQUIRE_TOTAL);
        assert_eq!((tries.len(), tries[0].count), (1, 1), "{outcome}");
        assert_eq!(tries[0].attributes[names::OUTCOME], outcome);
        assert_eq!(recorder.points(names::ACQUIRE_LATENCY_SECONDS), []);
        let span = recorder.span("tape_lock.acquire");
        assert_eq!(attributes(&span.attributes)[names::OUTCOME], outcome);
    }
}
