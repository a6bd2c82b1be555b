//! Context: calls belong to their caller's trace, those of a guard to its holder's.

use std::time::Duration;

use glock_core::{Lock, LockExt, LockId, Retry};
use glock_testing::MemoryLock;
use opentelemetry::{
    Context,
    context::FutureExt as _,
    trace::{TraceContextExt as _, Tracer as _, TracerProvider as _},
};
use opentelemetry_sdk::trace::SpanData;
use tokio::time::sleep;
use tracing::{Instrument as _, info_span};

use glock_harness::telemetry::{Recorder, Via};

const TTL: Duration = Duration::from_secs(30);

fn assert_child(child: &SpanData, parent: &SpanData) {
    let (trace, of_trace) = (child.span_context.trace_id(), parent.span_context.trace_id());
    assert_eq!(trace, of_trace, "`{}` is in another trace than `{}`", child.name, parent.name);
    assert_eq!(child.parent_span_id, parent.span_context.span_id(), "of `{}`", child.name);
}

/// Runs `work` in a span `job`, made with `tracing` or with OpenTelemetry's own interface.
async fn job<F: Future>(recorder: &Recorder, made_with: Via, work: F) -> F::Output {
    match made_with {
        Via::Layer => work.instrument(info_span!("job")).await,
        Via::Provider => {
            let job = recorder.tracers.tracer("application").start("job");
            work.with_context(Context::current_with_span(job)).await
        }
    }
}

const WAYS: [(Via, Via); 4] = [
    (Via::Layer, Via::Layer),
    (Via::Layer, Via::Provider),
    (Via::Provider, Via::Layer),
    (Via::Provider, Via::Provider),
];

#[tokio::test(start_paused = true)]
async fn a_call_is_part_of_its_callers_trace() {
    for (made_with, via) in WAYS {
        let recorder = Recorder::new(via);
        let lock = recorder.watch(MemoryLock::new());
        let id = LockId::new("x").unwrap();
        job(&recorder, made_with, lock.acquire(&id, TTL)).await.map(drop).unwrap();
        assert_child(&recorder.span("memory_lock.acquire"), &recorder.span("job"));
    }
}

/// The holder's span ends before the hold does and is not kept open by it.
#[tokio::test(start_paused = true)]
async fn renewals_and_the_release_are_part_of_the_holders_trace() {
    for (made_with, via) in WAYS {
        let recorder = Recorder::new(via);
        let lock = recorder.watch(MemoryLock::new());
        let hold = lock.hold("x", TTL, Retry::NEVER);
        let guard = job(&recorder, made_with, hold).await.unwrap();
        let job = recorder.span("job");
        sleep(Duration::from_secs(15)).await;
        assert_child(&recorder.span("memory_lock.renew"), &job);
        drop(guard);
        sleep(Duration::from_millis(1)).await;
        assert_child(&recorder.span("memory_lock.release"), &job);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_outside_of_any_span_has_traces_of_its_own() {
    let recorder = Recorder::new(Via::Layer);
    let lock = recorder.watch(MemoryLock::new());
    lock.hold("x", TTL, Retry::NEVER).await.unwrap().release().await.unwrap();
    for span in recorder.spans() {
        assert_eq!(span.parent_span_id, opentelemetry::trace::SpanId::INVALID);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_lock_inside_reports_is_part_of_the_call() {
    for (outer, inner) in WAYS {
        let recorder = Recorder::new(outer);
        let lock = recorder.watch(recorder.watch_via(inner, MemoryLock::new()));
        let id = LockId::new("x").unwrap();
        lock.inspect(&id).await.unwrap();
        let spans = recorder.spans_named("memory_lock.inspect");
        assert_eq!(spans.len(), 2);
        assert_child(&spans[0], &spans[1]);
    }
}

#[tokio::test(start_paused = true)]
async fn spans_on_a_provider_carry_what_the_context_carries() {
    let recorder = Recorder::new(Via::Provider);
    let lock = recorder.watch(MemoryLock::new());
    let root = recorder.tracers.tracer("application").start("job");
    let context = Context::current_with_span(root);
    let id = LockId::new("x").unwrap();
    lock.acquire(&id, TTL).with_context(context.clone()).await.map(drop).unwrap();
    assert!(context.span().is_recording(), "the caller's span is not ended by a call inside it");
    let acquire = recorder.span("memory_lock.acquire");
    assert_eq!(acquire.parent_span_id, context.span().span_context().span_id());
    assert_eq!(acquire.instrumentation_scope.name(), glock_telemetry::names::SCOPE);
}
