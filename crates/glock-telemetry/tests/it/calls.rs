//! Calls: each action with each of its outcomes, by metric and by span, both ways to OpenTelemetry.

use std::time::Duration;

use glock_core::{Action, Fault, IdPrefix, Lease, Lock, LockAdmin, LockId};
use glock_harness::telemetry::{Recorder, Via, attributes};
use glock_telemetry::{Instrumented, Outcome, names};
use glock_testing::MemoryLock;
use opentelemetry::trace::{SpanKind, Status};
use tokio::time::timeout;

use crate::odd::Odd;

const TTL: Duration = Duration::from_secs(30);
const FAULTS: [Fault; 3] = [Fault::Rejected, Fault::Unavailable, Fault::Unknown];

fn id() -> LockId {
    LockId::new("reports/nightly").unwrap()
}

/// Makes a call once, with the script that leads to `outcome`.
async fn make(lock: &Instrumented<MemoryLock>, lease: &Lease, action: Action, outcome: Outcome) {
    let script = lock.get_ref();
    match outcome {
        Outcome::Held | Outcome::NotHeld => script.refuse_next(action),
        Outcome::Error(fault) => script.fail_next(action, fault),
        Outcome::Cancelled => script.hang_next(action),
        _ => {}
    }
    let ttl = if outcome == Outcome::Invalid { Duration::ZERO } else { TTL };
    let id = id();
    let call = async {
        match action {
            Action::Acquire => lock.acquire(&id, ttl).await.map(drop),
            Action::Renew => lock.renew(lease, ttl).await.map(drop),
            Action::Release => lock.release(lease).await,
            Action::Wait => lock.wait(&id, Duration::from_secs(1)).await,
            Action::Inspect => lock.inspect(&id).await.map(drop),
            Action::List => lock.list_page(&IdPrefix::default(), None, 10).await.map(drop),
            Action::ForceRelease => lock.force_release(&id, lease.fence()).await.map(drop),
            Action::Preflight => lock.preflight().await.map(drop),
            Action::Prepare => unreachable!("no call of a lock prepares"),
        }
    };
    let ended = timeout(Duration::from_millis(100), call).await;
    assert_eq!(ended.as_ref().map_or(Outcome::Cancelled, Outcome::of), outcome, "{action}");
}

/// The outcomes that an action on a `MemoryLock` can have.
fn outcomes(action: Action) -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::Ok, Outcome::Cancelled];
    match action {
        Action::Acquire => outcomes.extend([Outcome::Held, Outcome::Invalid]),
        Action::Renew => outcomes.extend([Outcome::NotHeld, Outcome::Invalid]),
        _ => outcomes.push(Outcome::NotHeld),
    }
    outcomes.extend(FAULTS.map(Outcome::Error));
    outcomes
}

const CALLS: [(Action, &str, &str); 3] = [
    (Action::Acquire, names::ACQUIRE_TOTAL, names::ACQUIRE_LATENCY_SECONDS),
    (Action::Renew, names::RENEW_TOTAL, names::RENEW_LATENCY_SECONDS),
    (Action::Release, names::RELEASE_TOTAL, names::RELEASE_LATENCY_SECONDS),
];

/// A lock in a store of its own, what watches it, and a lease to renew and release.
async fn watched(via: Via, action: Action) -> (Recorder, Instrumented<MemoryLock>, Lease) {
    let recorder = Recorder::new(via);
    let store = MemoryLock::new();
    // Taken past the telemetry; an acquire that should succeed needs the lock to be free.
    let lease = store.acquire(&id(), TTL).await.unwrap();
    if matches!(action, Action::Acquire) {
        store.release(&lease).await.unwrap();
    }
    let lock = recorder.watch(store);
    (recorder, lock, lease)
}

#[tokio::test(start_paused = true)]
async fn every_call_is_counted_and_timed_by_outcome() {
    for (action, total, latency) in CALLS {
        for outcome in outcomes(action) {
            let (recorder, lock, lease) = watched(Via::Layer, action).await;
            make(&lock, &lease, action, outcome).await;

            let success = outcome.is_success().to_string();
            let labels = [
                (names::BACKEND, "memory"),
                (names::OUTCOME, outcome.as_str()),
                (names::SUCCESS, success.as_str()),
            ];
            let reason = outcome.fault().map(|fault| (names::REASON, fault.as_str()));
            let counted: Vec<_> = labels.iter().copied().chain(reason).collect();

            let what = format!("{action} {outcome:?}");
            let point = recorder.point(total, &counted).expect(&what);
            assert_eq!(point.count, 1, "{what}");
            assert_eq!(recorder.points(total).len(), 1, "{what}: one call is in one series");
            let point = recorder.point(latency, &labels).expect(&what);
            assert_eq!(point.count, 1, "{what}");
            let took = if outcome == Outcome::Cancelled { 0.1 } else { 0.0 };
            assert!((point.sum - took).abs() < 0.01, "{what}: {} s", point.sum);
            assert_eq!(recorder.metrics().1, 2, "{what}: nothing else was recorded");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_call_has_a_span() {
    for via in [Via::Layer, Via::Provider] {
        for (action, ..) in CALLS {
            for outcome in outcomes(action) {
                let (recorder, lock, lease) = watched(via, action).await;
                make(&lock, &lease, action, outcome).await;

                let what = format!("{via:?} {action} {outcome:?}");
                assert_eq!(recorder.spans().len(), 1, "{what}");
                let span = recorder.span(&format!("memory_lock.{action}"));
                assert_eq!(span.span_kind, SpanKind::Client, "{what}");
                let found = attributes(&span.attributes);
                let found = |name: &str| found.get(name).map(String::as_str);
                assert_eq!(found(names::LOCK_ID), Some("reports/nightly"), "{what}");
                assert_eq!(found(names::BACKEND), Some("memory"), "{what}");
                assert_eq!(found(names::OUTCOME), Some(outcome.as_str()), "{what}");
                assert_eq!(found(names::FAULT), outcome.fault().map(Fault::as_str), "{what}");
                let granted = outcome.is_success() && action != Action::Release;
                assert_eq!(found(names::FENCE).is_some(), granted, "{what}");
                assert_status(&span.status, outcome, &what);
            }
        }
    }
}

/// Only a store that fails fails the span.
fn assert_status(status: &Status, outcome: Outcome, what: &str) {
    let Some(fault) = outcome.fault() else {
        return assert_eq!(*status, Status::Unset, "{what}");
    };
    let Status::Error { description } = status else { panic!("{what}: {status:?}") };
    assert!(description.contains(&fault.to_string()), "{what}: {description}");
    assert!(
        description.ends_with(": scripted to fail"),
        "{what}: the cause is missing: {description}"
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_and_looking_have_spans_and_no_metrics() {
    for via in [Via::Layer, Via::Provider] {
        for action in [Action::Wait, Action::Inspect] {
            for outcome in [Outcome::Ok, Outcome::Cancelled, Outcome::Error(Fault::Unavailable)] {
                let recorder = Recorder::new(via);
                let mut odd = Odd::new(MemoryLock::new());
                odd.hang = outcome == Outcome::Cancelled;
                odd.fault = outcome.fault();
                let lock = recorder.watch(odd);
                let (id, second) = (id(), Duration::from_secs(1));
                let call = async {
                    match action {
                        Action::Wait => lock.wait(&id, second).await,
                        _ => lock.inspect(&id).await.map(drop),
                    }
                };
                let ended = timeout(second, call).await;
                let what = format!("{via:?} {action} {outcome:?}");
                assert_eq!(ended.as_ref().map_or(Outcome::Cancelled, Outcome::of), outcome);

                // The store is none of glock's own: OpenTelemetry has its span's name all the same.
                let span = recorder.span(&format!("tape_lock.{action}"));
                assert_eq!(span.span_kind, SpanKind::Client, "{what}");
                let found = attributes(&span.attributes);
                assert_eq!(found[names::OUTCOME], outcome.as_str(), "{what}");
                assert_eq!(found[names::BACKEND], "tape", "{what}");
                assert_status(&span.status, outcome, &what);
                assert_eq!(recorder.metrics().1, 0, "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_never_started_is_not_recorded() {
    let (recorder, lock, lease) = watched(Via::Layer, Action::Renew).await;
    drop(lock.renew(&lease, TTL));
    assert_eq!((recorder.spans().len(), recorder.metrics().1), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_is_really_taken_is_refused() {
    let (recorder, lock, lease) = watched(Via::Layer, Action::Release).await;
    lock.acquire(&id(), TTL).await.unwrap_err();
    lock.release(&lease).await.unwrap();
    let again = lock.acquire(&id(), TTL).await.unwrap();
    let renewed = lock.renew(&again, TTL).await.unwrap();
    assert_eq!(renewed.fence(), again.fence());
    for (total, outcome, success) in [
        (names::ACQUIRE_TOTAL, "held", "false"),
        (names::ACQUIRE_TOTAL, "ok", "true"),
        (names::RELEASE_TOTAL, "ok", "true"),
        (names::RENEW_TOTAL, "ok", "true"),
    ] {
        let labels =
            [(names::BACKEND, "memory"), (names::OUTCOME, outcome), (names::SUCCESS, success)];
        assert_eq!(recorder.point(total, &labels).unwrap().count, 1, "{total} {outcome}");
    }
    let fences: Vec<_> = recorder
        .spans()
        .iter()
        .filter_map(|span| attributes(&span.attributes).get(names::FENCE).cloned())
        .collect();
    assert_eq!(fences, [again.fence().to_string(), again.fence().to_string()]);
}

/// What an operator does is traced like every call, and counted nowhere: it says nothing of the lock.
#[tokio::test(start_paused = true)]
async fn what_an_operator_does_has_a_span() {
    for via in [Via::Layer, Via::Provider] {
        for (action, names_lock) in
            [(Action::List, false), (Action::ForceRelease, true), (Action::Preflight, false)]
        {
            for outcome in [Outcome::Ok, Outcome::Cancelled, Outcome::Error(Fault::Rejected)] {
                let (recorder, lock, lease) = watched(via, action).await;
                make(&lock, &lease, action, outcome).await;
                let [span] = &recorder.spans()[..] else { panic!("one span") };
                assert_eq!(span.name, format!("memory_lock.{action}"));
                let attributes = attributes(&span.attributes);
                assert_eq!(attributes.contains_key(names::LOCK_ID), names_lock);
                assert_eq!(attributes[names::OUTCOME], outcome.as_str());
                assert_eq!(recorder.metrics().1, 0);
            }
        }
    }
}
