//! `LockExt`: what callers use, written once for every lock.

use std::time::Duration;

use crate::{Guard, Hold, Lease, Lock, LockError, LockId, Retry, retry};

/// Holding, waiting and working under a lock. Every [`Lock`] has it; it cannot be implemented by
/// hand.
///
/// An id is anything that becomes a [`LockId`]: a `&str`, a `String`, a `LockId`.
pub trait LockExt: Lock {
    /// Takes the lock for `ttl`, trying again as `retry` says. Nothing renews the lease.
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
        async move {
            let id = id?;
            retry.check()?;
            self.capabilities().ttl(ttl)?;
            if retry.retries_max.is_some() {
                // Who counts tries does not queue, not even where the store has a queue.
                return retry::acquire_in_turn(self, &id, ttl, &retry).await;
            }
            self.acquire_within(&id, ttl, &retry).await
        }
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
        async move { Guard::start(self.clone(), lease.await?, ttl) }
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
        W: FnOnce(Hold) -> F + Send,
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
