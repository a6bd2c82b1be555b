//! The names that dashboards, alerts and queries rely on. Changing one is a breaking change.

/// The instrumentation scope of the metrics and of the spans made on a given tracer provider.
pub const SCOPE: &str = "glock";
/// The `tracing` target of every span and event, for filters: `glock=debug`.
pub const TARGET: &str = "glock";

/// Counter: tries to acquire, by [`BACKEND`], [`SUCCESS`] and [`OUTCOME`]; failures of the store
/// by [`REASON`] too.
pub const ACQUIRE_TOTAL: &str = "lock_acquire_total";
/// Counter: releases, by the same attributes.
pub const RELEASE_TOTAL: &str = "lock_release_total";
/// Counter: renewals, by the same attributes.
pub const RENEW_TOTAL: &str = "lock_renew_total";

/// Histogram: how long one try to acquire took, by [`BACKEND`], [`SUCCESS`] and [`OUTCOME`]. A
/// call that waits in a store's own queue is not in it: see [`WAIT_SECONDS`].
pub const ACQUIRE_LATENCY_SECONDS: &str = "lock_acquire_latency_seconds";
/// Histogram: how long a release took, by the same attributes.
pub const RELEASE_LATENCY_SECONDS: &str = "lock_release_latency_seconds";
/// Histogram: how long a renewal took, by the same attributes.
pub const RENEW_LATENCY_SECONDS: &str = "lock_renew_latency_seconds";

/// Histogram: how long a caller waited for the lock in all, from its first try on, by [`BACKEND`]
/// and how that ended ([`OUTCOME`]: a [`WaitEnd`](glock_core::WaitEnd)).
pub const WAIT_SECONDS: &str = "lock_wait_seconds";
/// Histogram: how long guards held their locks, by [`BACKEND`] and [`OUTCOME`]: [`RELEASED`] or
/// [`LOST`].
pub const HOLD_SECONDS: &str = "lock_hold_seconds";
/// Histogram: what was left of a lease when its renewal had arrived, by [`BACKEND`].
pub const RENEW_MARGIN_SECONDS: &str = "lock_renew_margin_seconds";
/// Counter: guards that lost their lock, by [`BACKEND`] and [`REASON`]: a
/// [`LossReason`](glock_core::LossReason). Each reason is there, with zero, from the first hold on.
pub const LOST_TOTAL: &str = "lock_lost_total";
/// Up-down counter: locks that guards of this process hold now, by [`BACKEND`].
pub const HELD: &str = "lock_held";

/// Every metric.
pub const METRICS: [&str; 11] = [
    ACQUIRE_TOTAL,
    RELEASE_TOTAL,
    RENEW_TOTAL,
    ACQUIRE_LATENCY_SECONDS,
    RELEASE_LATENCY_SECONDS,
    RENEW_LATENCY_SECONDS,
    WAIT_SECONDS,
    HOLD_SECONDS,
    RENEW_MARGIN_SECONDS,
    LOST_TOTAL,
    HELD,
];

/// Attribute and span field: the store, as [`backend`](glock_core::backend) names it.
pub const BACKEND: &str = "backend";
/// Attribute: whether the call did what it was asked for.
pub const SUCCESS: &str = "success";
/// Attribute and span field: how a call, a wait or a hold ended.
pub const OUTCOME: &str = "outcome";
/// Attribute and field of events: why a lock was lost, or what a failure of the store means (a
/// [`Fault`](glock_core::Fault)).
pub const REASON: &str = "reason";

/// Every attribute that a metric may have. A lock's id is none of them.
pub const ATTRIBUTES: [&str; 4] = [BACKEND, SUCCESS, OUTCOME, REASON];

/// [`OUTCOME`] of a hold that its guard let go.
pub const RELEASED: &str = "released";
/// [`OUTCOME`] of a hold that was lost.
pub const LOST: &str = "lost";

/// Span field: the lock's id.
pub const LOCK_ID: &str = "lock.id";
/// Span field: the fencing token of a grant or renewal.
pub const FENCE: &str = "fence";
/// Span field: what a failure of the store means.
pub const FAULT: &str = "fault";

/// The fields of a span.
pub const FIELDS: [&str; 5] = [LOCK_ID, BACKEND, OUTCOME, FENCE, FAULT];

/// Bounds of the latency histograms, in seconds: from a round trip on the loopback device to the
/// default time limit of a call.
pub const LATENCY_BOUNDS: [f64; 14] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Bounds of [`WAIT_SECONDS`]: from a lock that was free to a quarter of an hour in the queue.
pub const WAIT_BOUNDS: [f64; 14] =
    [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];
/// Bounds of [`HOLD_SECONDS`]: from a critical section to a leader of a day.
pub const HOLD_BOUNDS: [f64; 14] =
    [0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 14_400.0, 86_400.0];
/// Bounds of [`RENEW_MARGIN_SECONDS`]: dense where a lock is about to be lost.
pub const MARGIN_BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0, 300.0];
