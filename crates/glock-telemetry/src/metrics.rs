//! `Metrics`: the instruments, built once a lock, and the attribute sets that they are used with.

use std::{array, sync::Once, time::Duration};

use glock_core::{Action, Event, LossReason, WaitEnd};
use opentelemetry::{
    InstrumentationScope, KeyValue, Value,
    metrics::{Counter, Histogram, Meter, MeterProvider, UpDownCounter},
};

use crate::{names, outcome::Outcome};

#[derive(Debug)]
pub(crate) struct Metrics {
    acquire: Calls,
    renew: Calls,
    release: Calls,
    wait: Histogram<f64>,
    hold: Histogram<f64>,
    margin: Histogram<f64>,
    lost: Counter<u64>,
    held: UpDownCounter<i64>,
    backend: [KeyValue; 1],
    /// By [`Outcome::index`]: recording clones and formats nothing.
    outcomes: [[KeyValue; 3]; Outcome::ALL.len()],
    zero: Once,
}

/// What each of the three actions on a lease has.
#[derive(Debug)]
struct Calls {
    total: Counter<u64>,
    latency: Histogram<f64>,
}

/// Why a lock may be lost, to begin each series at zero: an alert on an increase would otherwise
/// miss the first loss of its kind.
const REASONS: [LossReason; 4] =
    [LossReason::Expired, LossReason::TakenAway, LossReason::MaxHold, LossReason::Stopped];

impl Metrics {
    pub(crate) fn new(backend: &'static str, provider: &dyn MeterProvider) -> Self {
        let meter = provider.meter_with_scope(scope());
        let text = |name: &'static str, value: &'static str| KeyValue::new(name, value);
        let margin = "What was left of the lease when its renewal had arrived";
        Self {
            acquire: Calls::new(
                &meter,
                (names::ACQUIRE_TOTAL, "Tries to acquire a lock"),
                (names::ACQUIRE_LATENCY_SECONDS, "How long one try to acquire took"),
            ),
            renew: Calls::new(
                &meter,
                (names::RENEW_TOTAL, "Renewals of a lease"),
                (names::RENEW_LATENCY_SECONDS, "How long a renewal took"),
            ),
            release: Calls::new(
                &meter,
                (names::RELEASE_TOTAL, "Releases of a lock"),
                (names::RELEASE_LATENCY_SECONDS, "How long a release took"),
            ),
            wait: seconds(&meter, names::WAIT_SECONDS, &names::WAIT_BOUNDS)(
                "How long a caller waited for a lock, from its first try on",
            ),
            hold: seconds(&meter, names::HOLD_SECONDS, &names::HOLD_BOUNDS)(
                "How long a guard held its lock",
            ),
            margin: seconds(&meter, names::RENEW_MARGIN_SECONDS, &names::MARGIN_BOUNDS)(margin),
            lost: counter(&meter, names::LOST_TOTAL, "{lock}", "Guards that lost their lock"),
            held: meter
                .i64_up_down_counter(names::HELD)
                .with_unit("{lock}")
                .with_description("Locks that guards of this process hold now")
                .build(),
            backend: [text(names::BACKEND, backend)],
            outcomes: array::from_fn(|at| {
                let outcome = Outcome::ALL[at];
                [
                    text(names::BACKEND, backend),
                    KeyValue::new(names::SUCCESS, outcome.is_success()),
                    text(names::OUTCOME, outcome.as_str()),
                ]
            }),
            zero: Once::new(),
        }
    }

    /// Counts a call, and how long it took if that says something about the store.
    pub(crate) fn call(&self, action: Action, outcome: Outcome, took: Option<Duration>) {
        let calls = match action {
            Action::Acquire => &self.acquire,
            Action::Renew => &self.renew,
            Action::Release => &self.release,
            Action::Wait
            | Action::Inspect
            | Action::Prepare
            | Action::List
            | Action::ForceRelease
            | Action::Preflight => return,
        };
        let labels = &self.outcomes[outcome.index()];
        match outcome.fault() {
            None => calls.total.add(1, labels),
            Some(fault) => {
                let [backend, success, outcome] = labels.clone();
                let reason = KeyValue::new(names::REASON, fault.as_str());
                calls.total.add(1, &[backend, success, outcome, reason]);
            }
        }
        if let Some(took) = took {
            calls.latency.record(took.as_secs_f64(), labels);
        }
    }

    pub(crate) fn event(&self, event: &Event<'_>) {
        match event {
            Event::Waited { waited, end, .. } => self.waited(*waited, *end),
            Event::HoldStarted { .. } => {
                self.zero.call_once(|| REASONS.iter().for_each(|reason| self.lost(0, *reason)));
                self.held.add(1, &self.backend);
            }
            Event::Renewed { margin, .. } => {
                self.margin.record(margin.as_secs_f64(), &self.backend);
            }
            Event::HoldEnded { held, lost, .. } => {
                self.held.add(-1, &self.backend);
                let outcome = if lost.is_some() { names::LOST } else { names::RELEASED };
                self.hold.record(held.as_secs_f64(), &self.with(names::OUTCOME, outcome));
                if let Some(reason) = lost {
                    self.lost(1, *reason);
                }
            }
            // What is added later has no metric yet.
            _ => {}
        }
    }

    fn waited(&self, waited: Duration, end: WaitEnd) {
        self.wait.record(waited.as_secs_f64(), &self.with(names::OUTCOME, end.as_str()));
    }

    fn lost(&self, count: u64, reason: LossReason) {
        self.lost.add(count, &self.with(names::REASON, reason.as_str()));
    }

    fn with(&self, name: &'static str, value: impl Into<Value>) -> [KeyValue; 2] {
        [self.backend[0].clone(), KeyValue::new(name, value)]
    }
}

impl Calls {
    fn new(
        meter: &Meter,
        (total, counted): (&'static str, &'static str),
        (latency, measured): (&'static str, &'static str),
    ) -> Self {
        Self {
            total: counter(meter, total, "{call}", counted),
            latency: seconds(meter, latency, &names::LATENCY_BOUNDS)(measured),
        }
    }
}

/// Who reports.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope::builder(names::SCOPE).with_version(env!("CARGO_PKG_VERSION")).build()
}

fn counter(
    meter: &Meter,
    name: &'static str,
    unit: &'static str,
    description: &'static str,
) -> Counter<u64> {
    meter.u64_counter(name).with_unit(unit).with_description(description).build()
}

fn seconds(
    meter: &Meter,
    name: &'static str,
    bounds: &[f64],
) -> impl FnOnce(&'static str) -> Histogram<f64> {
    let builder = meter.f64_histogram(name).with_unit("s").with_boundaries(bounds.to_vec());
    |description| builder.with_description(description).build()
}
