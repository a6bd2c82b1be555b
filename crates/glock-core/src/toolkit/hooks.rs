//! `LockHooks`: what a store gives guards, waiting loops and wrappers beside `Lock`.

use std::{fmt, pin::Pin, time::Duration};

use async_trait::async_trait;

use super::{pending_work::PendingWork, wait_queue::WaitQueue};
use crate::{Event, Lease, LockError, LockId, Retry};

/// A future in a box.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The task that keeps a guard's lock alive.
pub type Task = BoxFuture<'static, ()>;

/// Wraps a [`Task`] before it is spawned: what [`LockHooks::task_wrapper`] returns.
pub type TaskWrapper = Box<dyn FnOnce(Task) -> Task + Send>;

/// What a store gives guards, waiting loops and wrappers beside [`Lock`](crate::Lock). Callers of a
/// lock do not use it. Each method but [`pending_work`](Self::pending_work) has a default.
///
/// # Wrappers
///
/// A wrapper forwards every method, of this trait and of `Lock`, also those with a default: put
/// `#[deny(clippy::missing_trait_methods)]` on both `impl`s, so that a method that is added later
/// cannot silently bypass the inner lock's own.
#[async_trait]
pub trait LockHooks: fmt::Debug + Send + Sync + 'static {
    /// The releases and undos that this client and its clones have under way. Give it to each
    /// [`Call`](super::Call). It has no default: a lock that counted nothing would let a program end
    /// before its releases.
    fn pending_work(&self) -> &PendingWork;

    /// The queue of this client's waiters, for a store that keeps no queue. Only the first of them
    /// sends requests. Default: `None`, and every waiter sends its own.
    fn queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Waits in the queue that the store keeps, until the lock is granted or `retry` says to stop.
    /// Default: `None`, because the store keeps no queue; core then tries, sleeps in
    /// [`Lock::wait`](crate::Lock::wait) and tries again. [`acquire_queued`](super::acquire_queued) is
    /// the loop to implement it with.
    ///
    /// # Errors
    ///
    /// As [`LockExt::acquire_with_retry`](crate::LockExt::acquire_with_retry).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: neither a lock nor a place in the queue is left behind.
    fn acquire_queued<'a>(
        &'a self,
        _id: &'a LockId,
        _ttl: Duration,
        _retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        None
    }

    /// Renews the lease together with others that are due: what a guard's renewals call first. Default: `None`,
    /// because the store renews each lease alone; core then calls [`Lock::renew`](crate::Lock::renew).
    /// [`RenewalBatches`](super::RenewalBatches) is what to implement it with.
    ///
    /// # Errors
    ///
    /// As [`Lock::renew`](crate::Lock::renew).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: as [`Lock::renew`](crate::Lock::renew) is.
    fn renew_together<'a>(
        &'a self,
        _lease: &'a Lease,
        _ttl: Duration,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        None
    }

    /// A future that returns once the store has notified this client that the lease ended before its
    /// time: its session ended, or its record was deleted. Default: `None`, for a store that sends no
    /// notification; the next renewal or the lease's deadline then finds the loss, and a held lock has no
    /// room for the future.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    fn ended<'a>(&'a self, _lease: &'a Lease) -> Option<BoxFuture<'a, ()>> {
        None
    }

    /// Receives what only guards and waiting loops see. Default: does nothing.
    fn observe(&self, _event: &Event<'_>) {}

    /// What to put around the task that keeps a guard's lock alive, so that it runs in the holder's
    /// context. Called where the hold starts. Default: nothing.
    fn task_wrapper(&self) -> Option<TaskWrapper> {
        None
    }
}
