//! `Instrumented` as a `Lock`: every method goes to the lock inside, most of them with a report.

use std::time::Duration;

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Event, FencingToken, HoldPage, Holder, IdPrefix, Lease, ListCursor, Lock,
    LockAdmin, LockError, LockId, Retry, Warning,
    toolkit::{BoxFuture, LockHooks, PendingWork, Task, TaskWrapper, WaitQueue},
};
use opentelemetry::{Context, context::FutureExt as _, trace::TraceContextExt as _};
use tracing::debug;

use crate::{Instrumented, names::TARGET, report};

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: Lock> Lock for Instrumented<L> {
    fn backend(&self) -> &'static str {
        self.get_ref().backend()
    }

    fn capabilities(&self) -> Capabilities {
        self.get_ref().capabilities()
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        self.report(Action::Acquire, Some(id)).around(self.get_ref().acquire(id, ttl)).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        self.report(Action::Renew, Some(lease.id())).around(self.get_ref().renew(lease, ttl)).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        self.report(Action::Release, Some(lease.id())).around(self.get_ref().release(lease)).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        self.report(Action::Wait, Some(id)).untimed().around(self.get_ref().wait(id, max)).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        self.report(Action::Inspect, Some(id)).around(self.get_ref().inspect(id)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: LockAdmin> LockAdmin for Instrumented<L> {
    /// A span for each page.
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        self.report(Action::List, None).around(self.get_ref().list_page(prefix, after, max)).await
    }

    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let released = self.get_ref().force_release(id, expected);
        self.report(Action::ForceRelease, Some(id)).around(released).await
    }

    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        self.report(Action::Preflight, None).around(self.get_ref().preflight()).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: Lock> LockHooks for Instrumented<L> {
    /// A store's own queue is one long call.
    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        let queued = self.get_ref().acquire_queued(id, ttl, retry)?;
        Some(Box::pin(self.report(Action::Acquire, Some(id)).untimed().around(queued)))
    }

    fn queue(&self) -> Option<&WaitQueue> {
        self.get_ref().queue()
    }

    fn pending_work(&self) -> &PendingWork {
        self.get_ref().pending_work()
    }

    /// It waits for others that are due, which is no latency of the store.
    fn renew_together<'a>(
        &'a self,
        lease: &'a Lease,
        ttl: Duration,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        let renewed = self.get_ref().renew_together(lease, ttl)?;
        Some(Box::pin(
            self.report(Action::Renew, Some(lease.id())).timed_by_request().around(renewed),
        ))
    }

    fn ended<'a>(&'a self, lease: &'a Lease) -> Option<BoxFuture<'a, ()>> {
        self.get_ref().ended(lease)
    }

    fn observe(&self, event: &Event<'_>) {
        self.metrics.event(event);
        log(self.backend, event);
        self.get_ref().observe(event);
    }

    /// Renewals and the release are made by a task of their own; this makes their spans children
    /// of the holder's.
    fn task_wrapper(&self) -> Option<TaskWrapper> {
        let inner = self.get_ref().task_wrapper();
        let holder = Context::map_current(|context| {
            let holder = context.span().span_context().clone();
            // By its name only: the holder's span may end before the hold does.
            holder.is_valid().then(|| context.with_remote_span_context(holder))
        });
        let Some(holder) = holder else { return inner };
        Some(Box::new(move |task: Task| -> Task {
            let task = Box::pin(task.with_context(holder));
            match inner {
                Some(carry) => carry(task),
                None => task,
            }
        }))
    }
}

fn log(backend: &'static str, event: &Event<'_>) {
    match event {
        Event::Waited { id, waited, end } => {
            let (id, outcome, waited) = (id.as_str(), end.as_str(), waited.as_secs_f64());
            debug!(target: TARGET, backend, lock.id = id, outcome, waited, "waited for the lock");
        }
        Event::Renewed { id, margin } => {
            let (id, margin) = (id.as_str(), margin.as_secs_f64());
            debug!(target: TARGET, backend, lock.id = id, margin, "kept the lock");
        }
        Event::HoldEnded { id, held, lost: Some(reason) } => {
            report::lost(backend, id, *held, *reason);
        }
        Event::HoldEnded { id, held, lost: None } => {
            let (id, held) = (id.as_str(), held.as_secs_f64());
            debug!(target: TARGET, backend, lock.id = id, held, "let go of the lock");
        }
        // The grant was logged by the acquire.
        _ => {}
    }
}
