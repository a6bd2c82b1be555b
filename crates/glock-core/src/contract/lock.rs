//! The `Lock` trait: the contract between stores and glock.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Capabilities, Event, Holder, Lease, LockError, LockId, Retry,
    toolkit::{BoxFuture, LockHooks, PendingWork, TaskWrapper, WaitQueue},
};

/// A store that can hold locks.
///
/// This is the contract between stores and glock. Callers find holding, waiting with retries and
/// renewing in [`LockExt`](crate::LockExt). What guards, waiting loops and wrappers need beside it is
/// in [`LockHooks`].
///
/// # Contract
///
/// - *Exclusive.* Between a grant and its end, no other caller is granted the same id.
/// - *Mortal.* A lease ends by itself once its TTL has run out, whatever became of its holder.
/// - *Owned.* Only the lease that was granted can renew or release; any other gets
///   [`LockError::NotHeld`] and changes nothing.
/// - *Fenced.* Every later grant of an id carries a greater [`FencingToken`](crate::FencingToken).
/// - *Timely.* No call takes longer than [`LockConfig::call_timeout`](crate::LockConfig).
/// - *Clean.* A call that was dropped, or whose reply never came, leaves no lock behind.
///
/// `glock-testing` checks each clause against every backend.
#[async_trait]
pub trait Lock: LockHooks {
    /// The store's name: one of [`backend`](crate::backend), a label of low cardinality.
    fn backend(&self) -> &'static str;

    /// What this store promises beyond the contract.
    fn capabilities(&self) -> Capabilities;

    /// Tries once to take the lock `id` for `ttl`. It never waits for another holder.
    ///
    /// # Errors
    ///
    /// - [`LockError::Held`] if another owner has it.
    /// - [`LockError::Invalid`] for a TTL that the store does not offer.
    /// - [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: if the future is dropped and the lock is granted all the same, it is released
    /// in the background.
    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError>;

    /// Renews a lease: it then lasts for `ttl` from now. The old lease stays valid for what it was.
    ///
    /// # Errors
    ///
    /// - [`LockError::NotHeld`] if the lease is over; a lease is never brought back to life.
    /// - [`LockError::Invalid`] for a TTL that the store does not offer.
    /// - [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the old lease stays valid, whether or not the store renewed it.
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
    /// It subscribes to the release first and looks at the lock second, so that it misses no release
    /// between the two. It may return early; the caller tries again.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed. The caller then pauses before it tries again.
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
}

/// Forwards every method of `Lock` and `LockHooks` to what a pointer points at.
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
        }

        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<L: Lock + ?Sized> LockHooks for $pointer<L> {
            fn pending_work(&self) -> &PendingWork {
                (**self).pending_work()
            }
            fn queue(&self) -> Option<&WaitQueue> {
                (**self).queue()
            }
            fn acquire_queued<'a>(
                &'a self,
                id: &'a LockId,
                ttl: Duration,
                retry: &'a Retry,
            ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
                (**self).acquire_queued(id, ttl, retry)
            }
            fn renew_together<'a>(
                &'a self,
                lease: &'a Lease,
                ttl: Duration,
            ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
                (**self).renew_together(lease, ttl)
            }
            fn ended<'a>(&'a self, lease: &'a Lease) -> Option<BoxFuture<'a, ()>> {
                (**self).ended(lease)
            }
            fn observe(&self, event: &Event<'_>) {
                (**self).observe(event);
            }
            fn task_wrapper(&self) -> Option<TaskWrapper> {
                (**self).task_wrapper()
            }
        }
    };
}

forward!(Arc);
forward!(Box);
