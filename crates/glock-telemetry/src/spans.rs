//! `Spans` and `CallSpan`: the span of a call, as a `tracing` span or on a tracer of one's own.

use std::{borrow::Cow, fmt, sync::Arc};

use glock_core::{Action, FencingToken, LockId, backend};
use opentelemetry::{
    Context, KeyValue,
    global::BoxedTracer,
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use tracing::{Span, field, level_filters::LevelFilter};

use crate::{names, outcome::Outcome};

/// Where the spans of a lock go.
#[derive(Clone)]
pub(crate) enum Spans {
    /// To whatever subscribes to `tracing`.
    Tracing(SpanOf),
    /// Straight to OpenTelemetry.
    Tracer(Arc<BoxedTracer>),
}

impl Spans {
    pub(crate) fn tracing(backend: &'static str) -> Self {
        Self::Tracing(span_of(backend))
    }

    pub(crate) fn tracer(tracer: BoxedTracer) -> Self {
        Self::Tracer(Arc::new(tracer))
    }

    pub(crate) fn start(
        &self,
        action: Action,
        backend: &'static str,
        id: Option<&LockId>,
    ) -> CallSpan {
        match self {
            Self::Tracing(_) if LevelFilter::current() < LevelFilter::INFO => CallSpan::Off,
            Self::Tracing(span_of) => {
                let span = span_of(action, backend, id);
                if span.is_disabled() { CallSpan::Off } else { CallSpan::Tracing(span) }
            }
            Self::Tracer(tracer) => {
                let span = SpanBuilder::from_name(name(backend, action))
                    .with_kind(SpanKind::Client)
                    .with_attributes(
                        [KeyValue::new(names::BACKEND, backend)].into_iter().chain(
                            id.map(|id| KeyValue::new(names::LOCK_ID, id.as_str().to_owned())),
                        ),
                    );
                let parent = Context::current();
                CallSpan::Tracer(parent.with_span(tracer.build_with_context(span, &parent)))
            }
        }
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tracing(_) => "Tracing",
            Self::Tracer(_) => "Tracer",
        })
    }
}

/// The span of one call. It ends when it is dropped.
pub(crate) enum CallSpan {
    /// No subscriber wants it. `tracing` would still look for a logger at every step.
    Off,
    Tracing(Span),
    Tracer(Context),
}

impl CallSpan {
    /// Works inside the span, so that what the driver reports becomes its children.
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        match self {
            Self::Off => work(),
            Self::Tracing(span) => span.in_scope(work),
            Self::Tracer(context) => {
                let _current = context.clone().attach();
                work()
            }
        }
    }

    /// Logs inside the span.
    pub(crate) fn log(&self, log: impl FnOnce()) {
        match self {
            Self::Off | Self::Tracer(_) => log(),
            Self::Tracing(span) => span.in_scope(log),
        }
    }

    pub(crate) fn granted(&self, fence: FencingToken) {
        // OpenTelemetry's numbers are signed; a token beyond them would be 292,000 years of
        // microseconds.
        let fence = i64::try_from(fence.get()).unwrap_or(i64::MAX);
        match self {
            Self::Off => {}
            Self::Tracing(span) => {
                span.record(names::FENCE, fence);
            }
            Self::Tracer(context) => {
                context.span().set_attribute(KeyValue::new(names::FENCE, fence));
            }
        }
    }

    /// Only a store that fails makes a failed span; `why` says how it did.
    pub(crate) fn failed(&self, why: &dyn fmt::Display) {
        match self {
            Self::Off => {}
            Self::Tracing(span) => {
                span.record("otel.status_code", "ERROR");
                span.record("otel.status_description", field::display(why));
            }
            Self::Tracer(context) => context.span().set_status(Status::error(why.to_string())),
        }
    }

    pub(crate) fn ended(&self, outcome: Outcome) {
        match self {
            Self::Off => {}
            Self::Tracing(span) => {
                span.record(names::OUTCOME, outcome.as_str());
                if let Some(fault) = outcome.fault() {
                    span.record(names::FAULT, fault.as_str());
                }
            }
            Self::Tracer(context) => {
                let span = context.span();
                span.set_attribute(KeyValue::new(names::OUTCOME, outcome.as_str()));
                if let Some(fault) = outcome.fault() {
                    span.set_attribute(KeyValue::new(names::FAULT, fault.as_str()));
                }
                span.end();
            }
        }
    }
}

/// The name of a span of a store that is not in the list below too.
fn name(backend: &str, action: Action) -> Cow<'static, str> {
    format!("{backend}_lock.{action}").into()
}

/// A span's name belongs to the place in the code that makes it, so that filters need to look at
/// each place only once. Hence one place for each store and action.
macro_rules! span {
    ($name:expr, $backend:expr, $id:expr $(, $field:ident.$part:ident = $value:expr)?) => {
        tracing::info_span!(
            target: names::TARGET,
            $name,
            $($field.$part = $value,)?
            lock.id = $id.map(LockId::as_str),
            backend = $backend,
            outcome = field::Empty,
            fence = field::Empty,
            fault = field::Empty,
            otel.kind = "client",
            otel.status_code = field::Empty,
            otel.status_description = field::Empty,
        )
    };
}

type SpanOf = fn(Action, &'static str, Option<&LockId>) -> Span;

macro_rules! stores {
    ($($store:ident: $text:literal),+ $(,)?) => {
        fn span_of(backend: &str) -> SpanOf {
            match backend {
                $(backend::$store => |action, backend, id| match action {
                    Action::Acquire => span!(concat!($text, "_lock.acquire"), backend, id),
                    Action::Renew => span!(concat!($text, "_lock.renew"), backend, id),
                    Action::Release => span!(concat!($text, "_lock.release"), backend, id),
                    Action::Wait => span!(concat!($text, "_lock.wait"), backend, id),
                    Action::Inspect => span!(concat!($text, "_lock.inspect"), backend, id),
                    Action::Prepare => span!(concat!($text, "_lock.prepare"), backend, id),
                    Action::List => span!(concat!($text, "_lock.list"), backend, id),
                    Action::ForceRelease => {
                        span!(concat!($text, "_lock.force_release"), backend, id)
                    }
                    Action::Preflight => span!(concat!($text, "_lock.preflight"), backend, id),
                },)+
                // A store that is not glock's own: only OpenTelemetry shows the full name.
                _ => |action, backend, id| {
                    span!("lock", backend, id, otel.name = name(backend, action).as_ref())
                },
            }
        }

        #[cfg(test)]
        const STORES: &[(&str, &str)] = &[$((backend::$store, $text)),+];
    };
}

stores! {
    CONSUL: "consul",
    DYNAMODB: "dynamodb",
    ETCD: "etcd",
    HAZELCAST: "hazelcast",
    MEMORY: "memory",
    MONGODB: "mongodb",
    POSTGRES: "postgres",
    REDIS: "redis",
    SQLITE: "sqlite",
    ZOOKEEPER: "zookeeper",
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 9] = [
        Action::Acquire,
        Action::Renew,
        Action::Release,
        Action::Wait,
        Action::Inspect,
        Action::Prepare,
        Action::List,
        Action::ForceRelease,
        Action::Preflight,
    ];

    #[test]
    fn every_store_and_action_has_a_span_of_its_name() {
        let id = LockId::new("x").unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            for (backend, text) in STORES {
                assert_eq!(backend, text);
                for action in ACTIONS {
                    let span = span_of(backend)(action, backend, Some(&id));
                    let metadata = span.metadata().unwrap();
                    assert_eq!(metadata.name(), name(backend, action));
                    assert_eq!(metadata.target(), names::TARGET);
                    for field in names::FIELDS {
                        assert!(span.has_field(field), "{field}");
                    }
                }
            }
            let span = span_of("tape")(Action::Renew, "tape", Some(&id));
            assert_eq!(span.metadata().unwrap().name(), "lock");
        });
    }
}
