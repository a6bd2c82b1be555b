//! `Noop`: a lock that does nothing, so that what is around it can be measured.

use std::{
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use glock_core::{
    Capabilities, FencingToken, Holder, Lease, Lock, LockError, LockId, OwnerToken, backend,
    toolkit::{LockHooks, PendingWork},
};
use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Noop;

/// A lease that no store granted.
pub(crate) fn lease(id: &LockId) -> Lease {
    let owner = OwnerToken::new("0123456789abcdef").expect("sixteen digits");
    Lease::granted(id.clone(), owner, FencingToken::new(1), Instant::now(), Duration::from_secs(30))
}

/// What a call gives that never sleeps.
pub(crate) fn now<T>(call: impl Future<Output = T>) -> T {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("a lock that does nothing does not sleep"),
    }
}

#[async_trait]
impl Lock for Noop {
    fn backend(&self) -> &'static str {
        backend::MEMORY
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Duration::from_millis(10))
    }

    async fn acquire(&self, id: &LockId, _: Duration) -> Result<Lease, LockError> {
        Err(LockError::Held { id: id.clone(), holder: None })
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        Ok(lease.renewed(lease.deadline(), ttl))
    }

    async fn release(&self, _: &Lease) -> Result<(), LockError> {
        Ok(())
    }

    async fn wait(&self, _: &LockId, _: Duration) -> Result<(), LockError> {
        Ok(())
    }

    async fn inspect(&self, _: &LockId) -> Result<Option<Holder>, LockError> {
        Ok(None)
    }
}

impl LockHooks for Noop {
    fn pending_work(&self) -> &PendingWork {
        &NO_WORK
    }
}

static NO_WORK: LazyLock<PendingWork> = LazyLock::new(PendingWork::new);
