//! `Unsteady`: a lock whose store becomes slow or unreachable on demand, for pictures of that.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Event, Fault, Holder, Lease, Lock, LockError, LockId, Retry,
    toolkit::{BoxFuture, LockHooks, Mutex, PendingWork, TaskWrapper, WaitQueue},
};
use tokio::time::sleep;

/// What the store is like now.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conditions {
    /// How much longer each call takes.
    pub(crate) delay: Duration,
    /// How many of a hundred calls do not reach the store.
    pub(crate) lost_percent: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Unsteady {
    inner: Arc<dyn Lock>,
    conditions: Arc<Mutex<Conditions>>,
    calls: Arc<Mutex<u32>>,
}

impl Unsteady {
    pub(crate) fn new(inner: Arc<dyn Lock>, conditions: Arc<Mutex<Conditions>>) -> Self {
        Self { inner, conditions, calls: Arc::default() }
    }

    async fn pass(&self, action: Action) -> Result<(), LockError> {
        let conditions = *self.conditions.lock();
        sleep(conditions.delay).await;
        let call = {
            let mut calls = self.calls.lock();
            *calls += 1;
            *calls
        };
        // Spread evenly and the same in each run.
        if call * 37 % 100 < conditions.lost_percent {
            let (backend, fault) = (self.backend(), Fault::Unavailable);
            return Err(LockError::backend(backend, action, fault, "the cable was pulled"));
        }
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Lock for Unsteady {
    fn backend(&self) -> &'static str {
        self.inner.backend()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        self.pass(Action::Acquire).await?;
        self.inner.acquire(id, ttl).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        self.pass(Action::Renew).await?;
        self.inner.renew(lease, ttl).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        self.pass(Action::Release).await?;
        self.inner.release(lease).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        self.inner.wait(id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        self.inner.inspect(id).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LockHooks for Unsteady {
    fn pending_work(&self) -> &PendingWork {
        self.inner.pending_work()
    }

    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        self.inner.acquire_queued(id, ttl, retry)
    }

    fn queue(&self) -> Option<&WaitQueue> {
        self.inner.queue()
    }

    /// Each renewal fails by itself.
    fn renew_together<'a>(
        &'a self,
        _lease: &'a Lease,
        _ttl: Duration,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        None
    }

    fn ended<'a>(&'a self, lease: &'a Lease) -> Option<BoxFuture<'a, ()>> {
        self.inner.ended(lease)
    }

    fn observe(&self, event: &Event<'_>) {
        self.inner.observe(event);
    }

    fn task_wrapper(&self) -> Option<TaskWrapper> {
        self.inner.task_wrapper()
    }
}
