//! `Guard`: a lock that is held and kept alive.

use std::{fmt, mem, sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    hold::{ReleaseRequest, Shared},
    renewal::Renewal,
};
use crate::{
    Action, Fault, FencingToken, HoldView, Lease, Lock, LockError, LockId, LossReason,
    toolkit::PendingWork,
};

/// A held lock, kept alive by one task in the background until it is released, dropped or lost.
///
/// The lease is renewed at a third of its TTL, and a renewal that fails is tried again until the
/// lease's deadline. Look at [`is_valid`](Self::is_valid) right before each side effect, or race
/// the work against [`lost`](Self::lost); and hand [`fence`](Self::fence) to what the lock
/// protects, because a process that is paused in between learns of a loss too late.
///
/// # Drop
///
/// Dropping a guard makes its task release the lock: soon, not at once. An error then goes
/// unnoticed; call [`release`](Self::release) to see it. A program that ends waits for such releases
/// by [`LockExt::drain`](crate::LockExt::drain).
///
/// # Runtime
///
/// The task runs on the runtime that started the guard, and renews only while that runtime gets to run:
/// work that computes for a good part of the TTL belongs on a thread of its own (`spawn_blocking`), or
/// the guard on another runtime.
#[must_use = "dropping a guard releases its lock"]
pub struct Guard {
    shared: Arc<Shared>,
    is_released: bool,
    /// Counts the release from when it is requested.
    pending_work: PendingWork,
}

impl Guard {
    /// Takes over `lease` and renews it for `ttl` at a time.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] outside of a tokio runtime; the lease then runs out by itself.
    pub fn start<L: Lock>(lock: L, lease: Lease, ttl: Duration) -> Result<Self, LockError> {
        let runtime = Handle::try_current().map_err(|err| {
            LockError::backend(lock.backend(), Action::Renew, Fault::Rejected, err)
        })?;
        let shared = Arc::new(Shared::new(&lease));
        let (task_wrapper, pending_work) = (lock.task_wrapper(), lock.pending_work().clone());
        let task = Renewal::new(lock, lease, ttl, Arc::clone(&shared)).run();
        match task_wrapper {
            Some(wrap) => runtime.spawn(wrap(Box::pin(task))),
            None => runtime.spawn(task),
        };
        Ok(Self { shared, is_released: false, pending_work })
    }

    /// Stops renewing once the lock has been held for `max_hold`, so that a holder that is stuck
    /// loses it: the lease then runs out, at most one TTL later.
    pub fn with_max_hold(self, max_hold: Duration) -> Self {
        self.shared.hold_for(max_hold);
        self
    }

    /// The lock.
    pub fn id(&self) -> &LockId {
        self.shared.id()
    }

    /// The fencing token of the hold. No I/O.
    pub fn fence(&self) -> FencingToken {
        self.shared.fence()
    }

    /// Whether the lock is held: it is not lost, and the lease's deadline has not passed. No I/O,
    /// no allocation.
    pub fn is_valid(&self) -> bool {
        self.shared.is_valid()
    }

    /// What is left until the lease's deadline; zero once the lock is lost. No I/O.
    pub fn remaining(&self) -> Duration {
        self.shared.remaining()
    }

    /// Returns once the lock is lost: by the lease's deadline at the latest, even while a renewal
    /// hangs.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn lost(&self) -> LossReason {
        match self.shared.over().await {
            Some(reason) => reason,
            // The guard was released, so this future is gone as well.
            None => std::future::pending().await,
        }
    }

    /// A view of this hold, to be cloned into whatever works under the lock.
    pub fn view(&self) -> HoldView {
        HoldView::new(Arc::clone(&self.shared))
    }

    /// Releases the lock.
    ///
    /// # Errors
    ///
    /// - [`LockError::NotHeld`] if it was lost before.
    /// - [`LockError::Backend`] if the store failed. The release is then tried again in the
    ///   background until the lease has run out.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the release is carried out even if the future is dropped.
    pub async fn release(mut self) -> Result<(), LockError> {
        let (sender, reply) = oneshot::channel();
        self.request_release(Some(sender));
        reply.await.unwrap_or_else(|_| Err(self.shared.not_held()))
    }

    fn request_release(&mut self, reply: Option<oneshot::Sender<Result<(), LockError>>>) {
        if !mem::replace(&mut self.is_released, true) {
            let pending = self.pending_work.begin();
            self.shared.request_release(Box::new(ReleaseRequest { reply, pending }));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.request_release(None);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.view()).finish()
    }
}
