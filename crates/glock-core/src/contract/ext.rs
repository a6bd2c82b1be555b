//! `LockExt`: what callers use, written once for every lock.

use std::time::Duration;

use crate::{
    Guard, HoldView, Holder, Lease, Lock, LockError, LockId, Retry, toolkit::acquire_waiting,
};

/// Holding, waiting and working under a lock. Every [`Lock`] has it; it cannot be implemented by
/// hand.
///
/// An id is anything that becomes a [`LockId`]: a `&str`, a `String`, a `LockId`.
pub trait LockExt: Lock {
    /// Takes the lock for `ttl`, waiting for it as `retry` says. The caller renews the lease, or lets it
    /// run out.
    ///
    /// # Errors
    ///
    /// - [`LockError::Held`] when the retries, [`LockError::Timeout`] when the time has run out.
    /// - [`LockError::Invalid`] for an id, TTL or retry that cannot work.
    /// - [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: neither a lock nor a place in a queue is left behind.
    fn acquire_with_retry<I>(
        &self,
        id: I,
        ttl: Duration,
        retry: Retry,
    ) -> impl Future<Output = Result<Lease, LockError>> + Send
    where
        I: TryInto<LockId, Error: Into<LockError>>,
    {
        let id = id.try_into().map_err(Into::into);
        async move { acquire_waiting(self, &id?, ttl, &retry).await }
    }

    /// Takes the lock as [`acquire_with_retry`](Self::acquire_with_retry) does, and keeps it until
    /// the guard is released, dropped or lost.
    ///
    /// # Errors
    ///
    /// As [`acquire_with_retry`](Self::acquire_with_retry).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a lock that is granted after the future was dropped is released.
    fn hold<I>(
        &self,
        id: I,
        ttl: Duration,
        retry: Retry,
    ) -> impl Future<Output = Result<Guard, LockError>> + Send
    where
        Self: Clone,
        I: TryInto<LockId, Error: Into<LockError>>,
    {
        let lease = self.acquire_with_retry(id, ttl, retry);
        async move { guard(self.clone(), lease.await?) }
    }

    /// Tries once to take the lock, and keeps it until the guard is released, dropped or lost. It never
    /// waits for another holder.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] if another owner has the lock; otherwise as [`hold`](Self::hold).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a lock that is granted after the future was dropped is released.
    fn try_hold<I>(
        &self,
        id: I,
        ttl: Duration,
    ) -> impl Future<Output = Result<Guard, LockError>> + Send
    where
        Self: Clone,
        I: TryInto<LockId, Error: Into<LockError>>,
    {
        let lease = self.try_acquire(id, ttl);
        async move { guard(self.clone(), lease.await?) }
    }

    /// [`Lock::acquire`] by any id: tries once, and never waits for another holder. The caller renews
    /// the lease, or lets it run out.
    ///
    /// # Errors
    ///
    /// As [`Lock::acquire`], and [`LockError::Invalid`] for an id that cannot be a lock's.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a lock that is granted after the future was dropped is released.
    fn try_acquire<I>(
        &self,
        id: I,
        ttl: Duration,
    ) -> impl Future<Output = Result<Lease, LockError>> + Send
    where
        I: TryInto<LockId, Error: Into<LockError>>,
    {
        let id = id.try_into().map_err(Into::into);
        async move { self.acquire(&id?, ttl).await }
    }

    /// [`Lock::inspect`] by any id: who has the lock, or `None` if it is free.
    ///
    /// # Errors
    ///
    /// As [`Lock::inspect`], and [`LockError::Invalid`] for an id that cannot be a lock's.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    fn holder_of<I>(&self, id: I) -> impl Future<Output = Result<Option<Holder>, LockError>> + Send
    where
        I: TryInto<LockId, Error: Into<LockError>>,
    {
        let id = id.try_into().map_err(Into::into);
        async move { self.inspect(&id?).await }
    }

    /// Renews a lease for `ttl` from now, as [`Lock::renew`] does: so that `LockExt` is the only import.
    ///
    /// # Errors
    ///
    /// As [`Lock::renew`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the old lease stays valid, whether or not the store renewed it.
    fn renew_lease(
        &self,
        lease: &Lease,
        ttl: Duration,
    ) -> impl Future<Output = Result<Lease, LockError>> + Send {
        async move { self.renew(lease, ttl).await }
    }

    /// Ends a lease early, as [`Lock::release`] does: so that `LockExt` is the only import.
    ///
    /// # Errors
    ///
    /// As [`Lock::release`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, the release is carried out even if the future is dropped.
    fn release_lease(&self, lease: &Lease) -> impl Future<Output = Result<(), LockError>> + Send {
        async move { self.release(lease).await }
    }

    /// Waits until the releases and undos that this lock and its clones have under way are done, for at
    /// most `max`: those of dropped guards, of dropped acquires, of lost replies. Returns how many are
    /// left; their locks are free when their TTLs have run out.
    ///
    /// Call it before the runtime ends, as at the end of `main`: a runtime that is shut down drops its
    /// tasks. It does not end a hold: guards that are still alive are not waited for, and the lock can
    /// be used during it and after it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the work goes on.
    fn drain(&self, max: Duration) -> impl Future<Output = usize> + Send {
        self.pending_work().drained(max)
    }

    /// Works under the lock: holds it, runs `work`, and releases it.
    ///
    /// If the lock is lost, `work` is dropped where it stands. Its result is given even if the
    /// release failed, because the lock then runs out by itself; not if the lock turned out to be
    /// lost.
    ///
    /// # Errors
    ///
    /// As [`hold`](Self::hold), and [`LockError::NotHeld`] if the lock was lost.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe for the lock: it is released. `work` is dropped where it stands.
    fn with_lock<I, W, F>(
        &self,
        id: I,
        ttl: Duration,
        retry: Retry,
        work: W,
    ) -> impl Future<Output = Result<F::Output, LockError>> + Send
    where
        Self: Clone,
        I: TryInto<LockId, Error: Into<LockError>>,
        W: FnOnce(HoldView) -> F + Send,
        F: Future<Output: Send> + Send,
    {
        let guard = self.hold(id, ttl, retry);
        async move {
            let guard = guard.await?;
            let done = tokio::select! {
                biased;
                _ = guard.lost() => None,
                done = work(guard.view()) => Some(done),
            };
            let lost = LockError::NotHeld { id: guard.id().clone() };
            match guard.release().await {
                Err(err @ LockError::NotHeld { .. }) => Err(err),
                _ => done.ok_or(lost),
            }
        }
    }
}

impl<L: Lock + ?Sized> LockExt for L {}

/// A guard that renews its lease for the TTL that the store granted.
fn guard<L: Lock>(lock: L, lease: Lease) -> Result<Guard, LockError> {
    let ttl = lease.ttl();
    Guard::start(lock, lease, ttl)
}
