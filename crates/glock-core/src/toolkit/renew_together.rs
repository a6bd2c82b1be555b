//! How a lock renews a lease together with others.

use std::{sync::Arc, time::Duration};

use super::{hooks::BoxFuture, renew_store::RenewStore, renewal_batches::RenewalBatches};
use crate::{Lease, Lock, LockError};

impl<S: RenewStore> RenewalBatches<S> {
    /// Renews the lease of `lock` for `ttl` together with others, or alone where that has not renewed it. `None`: it has
    /// no time to wait for others, or the TTL is none of the store's. For
    /// [`LockHooks::renew_together`](super::LockHooks::renew_together).
    ///
    /// # Errors
    ///
    /// As [`Lock::renew`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, if [`Lock::renew`] is. The renewal may still be carried out.
    pub fn renew<'a>(
        self: &'a Arc<Self>,
        lock: &'a impl Lock,
        lease: &'a Lease,
        ttl: Duration,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        let rounded = lock.capabilities().ttl(ttl).ok()?;
        // In a block of its own: a future that is not needed is not made.
        self.renew_or(lease, rounded, async move { lock.renew(lease, ttl).await })
    }
}
