//! `Report`: one call under way, recorded when it ends and when it is dropped before.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use glock_core::{Action, Lease, LockError, LockId, LossReason};
use tokio::time::Instant;
use tracing::{debug, trace, warn};

use crate::{
    metrics::Metrics,
    names::TARGET,
    outcome::Outcome,
    spans::{CallSpan, Spans},
};

/// One call under way. Dropping it records it, so that a cancelled call is recorded too.
pub(crate) struct Report<'a> {
    action: Action,
    backend: &'static str,
    /// `None`: the call is about no lock in particular.
    id: Option<&'a LockId>,
    metrics: &'a Metrics,
    span: CallSpan,
    started: Option<Instant>,
    /// Whether the call waits for others before a request is sent.
    waits: bool,
    outcome: Outcome,
}

impl<'a> Report<'a> {
    pub(crate) fn start(
        action: Action,
        backend: &'static str,
        id: Option<&'a LockId>,
        metrics: &'a Metrics,
        spans: &Spans,
    ) -> Self {
        let span = spans.start(action, backend, id);
        let started = Some(Instant::now());
        let outcome = Outcome::Cancelled;
        Self { action, backend, id, metrics, span, started, waits: false, outcome }
    }

    /// Leaves out of the latency how long the call waits before its request is sent.
    pub(crate) fn timed_by_request(mut self) -> Self {
        self.waits = true;
        self
    }

    /// Leaves the latency out: the call sleeps, which says nothing about the store.
    pub(crate) fn untimed(mut self) -> Self {
        self.started = None;
        self
    }

    /// Makes the call and records how it ended.
    pub(crate) fn around<T: Grant>(self, call: Pending<'a, T>) -> Reported<'a, T> {
        Reported { call, report: self }
    }

    fn ended<T: Grant>(&mut self, result: &Result<T, LockError>) {
        self.outcome = Outcome::of(result);
        match result {
            Ok(done) => {
                let lease = done.lease();
                if self.waits {
                    self.started = lease.and_then(Lease::sent_at).or(self.started);
                }
                self.succeeded(lease);
            }
            Err(err) => self.failed(err),
        }
    }

    fn succeeded(&self, lease: Option<&Lease>) {
        let (backend, id, action) = (self.backend, self.id.map(LockId::as_str), self.action);
        if let Some(lease) = lease {
            self.span.granted(lease.fence());
        }
        let fence = lease.map(|lease| lease.fence().get());
        self.span.log(|| match action {
            Action::Acquire | Action::Release => {
                debug!(target: TARGET, backend, lock.id = id, fence, "{} the lock", action.done());
            }
            Action::ForceRelease => {
                debug!(target: TARGET, backend, lock.id = id, "ended the hold of the lock, or found none");
            }
            Action::List | Action::Preflight => {
                trace!(target: TARGET, backend, "{}", action.done());
            }
            _ => trace!(target: TARGET, backend, lock.id = id, fence, "{} the lock", action.done()),
        });
    }

    fn failed(&self, err: &LockError) {
        let (backend, id, action) = (self.backend, self.id.map(LockId::as_str), self.action);
        let (outcome, why) = (self.outcome.as_str(), Chain(err));
        let Some(fault) = self.outcome.fault() else {
            self.span.log(|| {
                debug!(target: TARGET, backend, lock.id = id, outcome, "did not {}: {why}", action.phrase());
            });
            return;
        };
        self.span.failed(&why);
        let reason = fault.as_str();
        self.span.log(|| warn!(target: TARGET, backend, lock.id = id, outcome, reason, "{why}"));
    }
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if self.outcome == Outcome::Cancelled {
            let (backend, id, action) = (self.backend, self.id.map(LockId::as_str), self.action);
            let outcome = self.outcome.as_str();
            self.span.log(|| {
                debug!(target: TARGET, backend, lock.id = id, outcome, "dropped the call to {}", action.phrase());
            });
        }
        let took = self.started.map(|started| started.elapsed());
        self.metrics.call(self.action, self.outcome, took);
        self.span.ended(self.outcome);
    }
}

/// What a call of the lock inside is before it has ended.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, LockError>> + Send + 'a>>;

/// A call and its report. One plain future instead of several nested ones, because it stands
/// around every call.
pub(crate) struct Reported<'a, T> {
    // Before the report: what it does when it is dropped still belongs to the call.
    call: Pending<'a, T>,
    report: Report<'a>,
}

impl<T: Grant> Future for Reported<'_, T> {
    type Output = Result<T, LockError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let result = ready!(this.report.span.within(|| this.call.as_mut().poll(cx)));
        this.report.ended(&result);
        Poll::Ready(result)
    }
}

/// What a call gives, and whether that is a lease.
pub(crate) trait Grant {
    fn lease(&self) -> Option<&Lease> {
        None
    }
}

impl Grant for () {}

impl Grant for Option<glock_core::Holder> {}

impl Grant for bool {}

impl Grant for glock_core::HoldPage {}

impl Grant for Vec<glock_core::Warning> {}

impl Grant for Lease {
    fn lease(&self) -> Option<&Lease> {
        Some(self)
    }
}

/// An error and what caused it, each said once: many drivers repeat their cause in their own text.
struct Chain<'a>(&'a LockError);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = self.0.to_string();
        f.write_str(&said)?;
        let mut cause = self.0.source();
        while let Some(err) = cause {
            let text = err.to_string();
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said = text;
            }
            cause = err.source();
        }
        Ok(())
    }
}

/// A lost lock is what an operator should look at.
pub(crate) fn lost(backend: &'static str, id: &LockId, held: std::time::Duration, why: LossReason) {
    let (id, reason, held) = (id.as_str(), why.as_str(), held.as_secs_f64());
    warn!(target: TARGET, backend, lock.id = id, reason, held, "lost the lock: {why}");
}

#[cfg(test)]
mod tests {
    use glock_core::Fault;

    use super::*;

    #[derive(Debug)]
    struct Caused(&'static str, Option<Box<Caused>>);

    impl fmt::Display for Caused {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Caused {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn each_cause_is_said_once() {
        let deepest = Caused("connection refused", None);
        let repeats = Caused("i/o error: connection refused", Some(deepest.into()));
        let driver = Caused("no connection", Some(repeats.into()));
        let err = LockError::backend("redis", Action::Renew, Fault::Unavailable, driver);
        assert_eq!(
            Chain(&err).to_string(),
            "could not renew the lock on redis: the store is out of reach and nothing was changed; \
             try again: no connection: i/o error: connection refused"
        );
    }
}
