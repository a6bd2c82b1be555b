//! `Instrumented`: a lock that reports what is done with it.

use std::{fmt, sync::Arc};

use glock_core::{Action, Lock, LockId};
use opentelemetry::{
    global::{self, BoxedTracer},
    metrics::MeterProvider,
    trace::{Tracer, TracerProvider},
};

use crate::{
    metrics::{self, Metrics},
    report::Report,
    spans::Spans,
};

/// A lock that reports what is done with it: metrics, spans and logs, around any [`Lock`].
///
/// It is a [`Lock`] itself, so guards, retry loops and queues are reported on as well. Clones
/// report to the same place. A call costs one allocation more than without.
///
/// - *Metrics* go to OpenTelemetry's global meter provider as it is when the lock is wrapped, or
///   to [`with_meter_provider`](Self::with_meter_provider)'s.
/// - *Spans* are `tracing` spans, which reach OpenTelemetry through the application's
///   `tracing-opentelemetry` layer, or go straight to
///   [`with_tracer_provider`](Self::with_tracer_provider)'s.
/// - *Logs* are `tracing` events: `debug` for what locks are for (granted, refused, cancelled),
///   `warn` for a store that fails and a lock that is lost.
///
/// [`names`](crate::names) has what they are called. Nothing global is set.
#[derive(Clone)]
pub struct Instrumented<L> {
    inner: L,
    pub(crate) backend: &'static str,
    pub(crate) metrics: Arc<Metrics>,
    spans: Spans,
}

impl<L: Lock> Instrumented<L> {
    /// Wraps `lock`. Set OpenTelemetry's global meter provider before, or give one of your own.
    pub fn new(lock: L) -> Self {
        let backend = lock.backend();
        let metrics = Arc::new(Metrics::new(backend, &*global::meter_provider()));
        Self { inner: lock, backend, metrics, spans: Spans::tracing(backend) }
    }

    /// Takes the metrics to `provider`.
    #[must_use]
    pub fn with_meter_provider(mut self, provider: &dyn MeterProvider) -> Self {
        self.metrics = Arc::new(Metrics::new(self.backend, provider));
        self
    }

    /// Makes the spans on a tracer of `provider`, as children of the current OpenTelemetry context,
    /// and no longer through `tracing`: for applications that do not use `tracing`, and for locks
    /// whose spans go elsewhere. Logs stay `tracing` events.
    #[must_use]
    pub fn with_tracer_provider<P>(mut self, provider: &P) -> Self
    where
        P: TracerProvider,
        P::Tracer: Tracer<Span: Send + Sync + 'static> + Send + Sync + 'static,
    {
        let tracer = provider.tracer_with_scope(metrics::scope());
        self.spans = Spans::tracer(BoxedTracer::new(Box::new(tracer)));
        self
    }
}

impl<L> Instrumented<L> {
    /// The lock inside.
    pub fn get_ref(&self) -> &L {
        &self.inner
    }

    /// The lock inside, without telemetry.
    pub fn into_inner(self) -> L {
        self.inner
    }

    pub(crate) fn report<'a>(&'a self, action: Action, id: Option<&'a LockId>) -> Report<'a> {
        Report::start(action, self.backend, id, &self.metrics, &self.spans)
    }
}

impl<L: fmt::Debug> fmt::Debug for Instrumented<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Instrumented").field(&self.inner).finish()
    }
}
