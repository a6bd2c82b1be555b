//! The `Lock` trait: the contract between stores and glock.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{Capabilities, Event, Holder, Lease, LockError, LockId, Retry, WaitQueue, retry};

/// The task that keeps a guard's lock alive.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Wraps a [`Task`] before it is spawned: what [`Lock::carrier`] gives.
pub type Carrier = Box<dyn FnOnce(Task) -> Task + Send>;

/// A store that can hold locks.
///
/// This is the contract between backends and glock. Callers find holding, waiting with retries and
/// renewing in [`LockExt`](crate::LockExt).
///
/// # Contract
///
/// - *Exclusive.* Between a grant and its end, nobody else is granted the same id.
/// - *Mortal.* A lease ends by itself once its TTL has run out, whatever became of its holder.
/// - *Owned.* Only the lease that was granted can renew or release; any other gets
///   [`LockError::NotHeld`] and changes nothing.
/// - *Fenced.* Every later grant of an id carries a greater [`FencingToken`](crate::FencingToken).
/// - *Timely.* No call takes longer than [`LockConfig::call_timeout`](crate::LockConfig).
/// - *Clean.* A call that was dropped, or whose answer never came, leaves no lock behind.
///
/// `glock-testing` checks each clause against every backend.
///
/// # Wrappers
///
/// A wrapper forwards every method, the provided ones too: put
/// `#[deny(clippy::missing_trait_methods)]` on its `impl`, so that a method that is added later
/// cannot silently bypass the inner lock's own.
#[async_trait]
pub trait Lock: fmt::Debug + Send + Sync + 'static {
    /// The store's name: one of [`backend`](crate::backend), a label of low cardinality.
    fn backend(&self) -> &'static str;

    /// What this store promises beyond the contract.
    fn capabilities(&self) -> Capabilities;

    /// Tries once to take the lock `id` for `ttl`, and never waits for it.
    ///
    /// # Errors
    ///
    /// - [`LockError::Held`] if somebody else has it.
    /// - [`LockError::Invalid`] for a TTL that the store does not offer.
    /// - [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if the future is dropped and the lock is granted all the same, it is released
    /// in the background.
    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError>;

    /// Extends a lease to `ttl` from now. The old lease stays good for what it was.
    ///
    /// # Errors
    ///
    /// - [`LockError::NotHeld`] if the lease is over; a lease is never brought back to life.
    /// - [`LockError::Invalid`] for a TTL that the store does not offer.
    /// - [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the old lease stays good, whether or not the store extended it.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError>;

    /// Ends a lease early.
    ///
    /// # Errors
    ///
    /// - [`LockError::NotHeld`] if the lease was over before.
    /// - [`LockError::Backend`] if the store failed. The lock is then free when the TTL has run out.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the release is carried out even if the future is dropped.
    async fn release(&self, lease: &Lease) -> Result<(), LockError>;

    /// Sleeps until the lock may be free, and at most for `max`.
    ///
    /// The store is asked *after* the wake-up was subscribed to, so that no release between the two
    /// is missed. Coming back early is allowed; the caller tries again and finds out.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed. The caller then sleeps for itself.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError>;

    /// Who has the lock, or `None` if it is free.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError>;

    /// Waits for the lock: tries, sleeps in [`wait`](Self::wait), and tries again until it is
    /// granted or `retry` says to stop.
    ///
    /// Provided for stores without a queue of their own: of one client's waiters only the first
    /// asks the store, and they are served in the order in which they came (see
    /// [`queue`](Self::queue)). Stores that keep a queue override it.
    ///
    /// # Errors
    ///
    /// - [`LockError::Held`] when the retries, [`LockError::Timeout`] when the time has run out;
    ///   the store's own failure, if that was the last thing seen.
    /// - Whatever else [`acquire`](Self::acquire) returns and another try cannot mend.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: neither a lock nor a place in the queue is left behind.
    async fn acquire_within(
        &self,
        id: &LockId,
        ttl: Duration,
        retry: &Retry,
    ) -> Result<Lease, LockError> {
        retry::acquire_in_turn(self, id, ttl, retry).await
    }

    /// Where this client's waiters stand in line, for stores without a queue of their own.
    /// Provided: `None`, and every waiter asks the store for itself.
    fn queue(&self) -> Option<&WaitQueue> {
        None
    }

    /// Returns once the store has told this client that the lease is over before its time: its
    /// session ended, or its record was deleted. Provided: never; a loss is then found by the next
    /// renewal or by the lease's deadline.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn ended(&self, _lease: &Lease) {
        std::future::pending::<()>().await;
    }

    /// Is told what only guards, retry loops and queues see. Provided: does nothing.
    fn observe(&self, _event: &Event<'_>) {}

    /// What to put around the task that keeps a guard's lock alive, so that it works in the context
    /// of whoever holds the lock. It is asked for where the hold starts. Provided: nothing.
    fn carrier(&self) -> Option<Carrier> {
        None
    }
}

/// Forwards every method of `Lock` to what a pointer points at.
macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<L: Lock + ?Sized> Lock for $pointer<L> {
            fn backend(&self) -> &'static str {
                (**self).backend()
            }
            fn capabilities(&self) -> Capabilities {
                (**self).capabilities()
            }
            async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
                (**self).acquire(id, ttl).await
            }
            async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
                (**self).renew(lease, ttl).await
            }
            async fn release(&self, lease: &Lease) -> Result<(), LockError> {
                (**self).release(lease).await
            }
            async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
                (**self).wait(id, max).await
            }
            async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
                (**self).inspect(id).await
            }
            async fn acquire_within(
                &self,
                id: &LockId,
                ttl: Duration,
                retry: &Retry,
            ) -> Result<Lease, LockError> {
                (**self).acquire_within(id, ttl, retry).await
            }
            fn queue(&self) -> Option<&WaitQueue> {
                (**self).queue()
            }
            async fn ended(&self, lease: &Lease) {
                (**self).ended(lease).await;
            }
            fn observe(&self, event: &Event<'_>) {
                (**self).observe(event);
            }
            fn carrier(&self) -> Option<Carrier> {
                (**self).carrier()
            }
        }
    };
}

forward!(Arc);
forward!(Box);
