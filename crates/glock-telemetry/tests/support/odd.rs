//! `Odd`: a lock that does what a `MemoryLock` does not: keep a queue, and fail to wait or look.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Event, Fairness, Fault, Holder, Lease, Lock, LockError, LockExt, LockId,
    Retry,
    toolkit::{BoxFuture, LockHooks, PendingWork, Task, TaskWrapper, WaitQueue},
};
use glock_testing::MemoryLock;

#[derive(Debug, Clone)]
pub(crate) struct Odd {
    pub(crate) inner: MemoryLock,
    /// What the next `wait` or `inspect` fails with.
    pub(crate) fault: Option<Fault>,
    /// Whether `wait` and `inspect` never come back.
    pub(crate) hang: bool,
    pub(crate) seen: Arc<Seen>,
}

/// What was forwarded.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) events: AtomicUsize,
    pub(crate) ended: AtomicBool,
    pub(crate) carried: AtomicBool,
    pub(crate) within: AtomicUsize,
}

impl Odd {
    pub(crate) fn new(inner: MemoryLock) -> Self {
        Self { inner, fault: None, hang: false, seen: Arc::default() }
    }

    async fn stumble(&self, action: Action) -> Result<(), LockError> {
        if self.hang {
            std::future::pending::<()>().await;
        }
        let failed = |fault| LockError::backend(self.backend(), action, fault, "scripted to fail");
        self.fault.map_or(Ok(()), |fault| Err(failed(fault)))
    }
}

#[async_trait]
impl Lock for Odd {
    fn backend(&self) -> &'static str {
        "tape"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = self.inner.capabilities();
        capabilities.fairness = Fairness::Store;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        self.inner.acquire(id, ttl).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        self.inner.renew(lease, ttl).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        self.inner.release(lease).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        self.stumble(Action::Wait).await?;
        self.inner.wait(id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        self.stumble(Action::Inspect).await?;
        self.inner.inspect(id).await
    }
}

#[async_trait]
impl LockHooks for Odd {
    fn pending_work(&self) -> &PendingWork {
        self.inner.pending_work()
    }

    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        self.seen.within.fetch_add(1, Relaxed);
        let queued = self.inner.acquire_with_retry(id.clone(), ttl, *retry);
        Some(Box::pin(queued))
    }

    fn queue(&self) -> Option<&WaitQueue> {
        self.inner.queue()
    }

    fn ended<'a>(&'a self, _: &'a Lease) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(async {
            self.seen.ended.store(true, Relaxed);
            std::future::pending::<()>().await;
        }))
    }

    fn observe(&self, _: &Event<'_>) {
        self.seen.events.fetch_add(1, Relaxed);
    }

    fn task_wrapper(&self) -> Option<TaskWrapper> {
        let seen = Arc::clone(&self.seen);
        Some(Box::new(move |task: Task| -> Task {
            seen.carried.store(true, Relaxed);
            task
        }))
    }
}
