//! `LeasePool`: leases granted ahead, so that an acquire is one round trip.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{
    Action, LockError,
    toolkit::{BackgroundTask, Mutex, SpareLimits, SparePool, Worker},
};

use crate::{
    client::rpc::Rpc,
    session::lease::{SpareLease, grant},
};

/// Leases that this client's locks have left, for its next ones of the same TTL. They are not kept
/// alive: an idle client is left with one for each TTL, until that has run out. Dropped, the pool
/// revokes them.
pub(crate) struct LeasePool {
    rpc: Arc<Rpc>,
    spares: SparePool<SpareLease>,
    /// The shortest TTL in seconds that the server grants, once it has granted more than requested.
    ttl_min: AtomicU64,
    /// TTLs of which a lease is to be granted ahead.
    prefetch: Mutex<Vec<Duration>>,
    task: BackgroundTask,
}

const LIMITS: SpareLimits = SpareLimits {
    kept_max: Duration::MAX,
    surplus_max: Duration::from_secs(5),
    ttl_max: Duration::from_hours(1),
};
/// The longest rest between two sweeps. It is shorter than a call's time limit, so that such a limit is
/// hardly ever the timer that the runtime waits for next: to set that timer again costs a call some
/// microseconds.
const REST_MAX: Duration = Duration::from_millis(500);

impl LeasePool {
    pub(crate) fn new(rpc: Arc<Rpc>) -> Arc<Self> {
        Arc::new(Self {
            rpc,
            spares: SparePool::new(LIMITS),
            ttl_min: AtomicU64::new(0),
            prefetch: Mutex::default(),
            task: BackgroundTask::new(),
        })
    }

    /// A lease for a lock of this TTL: a spare one, or a fresh one if there is none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`grant`] is.
    pub(crate) async fn take(
        &self,
        action: Action,
        ttl: Duration,
    ) -> Result<SpareLease, LockError> {
        match self.spare(ttl) {
            Some(spare) => Ok(spare),
            None => self.grant(action, ttl).await,
        }
    }

    /// A spare lease for a lock of this TTL, if there is one.
    pub(crate) fn spare(&self, ttl: Duration) -> Option<SpareLease> {
        let (spare, stale) = self.spares.take(self.granted_ttl(ttl));
        self.rpc.revoke_later(stale.iter().map(|lease| lease.id).collect());
        spare
    }

    /// Keeps a lease that a lock has left. No key may be on it, and no request in flight may use it.
    pub(crate) fn put(self: &Arc<Self>, lease: SpareLease) {
        match self.spares.put(lease) {
            Ok(()) => self.task.start(self),
            Err(lease) => self.end(lease.id),
        }
    }

    /// Revokes a lease in the background. If that fails, it runs out.
    pub(crate) fn end(&self, lease: i64) {
        self.rpc.revoke_later(vec![lease]);
    }

    /// Grants a lease ahead in the background, unless there is one.
    pub(crate) fn prefetch(self: &Arc<Self>, ttl: Duration) {
        let granted = self.granted_ttl(ttl);
        if granted > LIMITS.ttl_max || self.spares.has(granted) {
            return;
        }
        let mut prefetch = self.prefetch.lock();
        if !prefetch.contains(&ttl) {
            prefetch.push(ttl);
        }
        drop(prefetch);
        self.task.start(self);
        self.task.wake();
    }

    async fn grant(&self, action: Action, ttl: Duration) -> Result<SpareLease, LockError> {
        let lease = grant(&self.rpc, action, ttl).await?;
        if lease.ttl > ttl {
            self.ttl_min.store(lease.ttl.as_secs(), Relaxed);
        }
        Ok(lease)
    }

    /// The TTL that the server grants where `ttl` is requested, as far as is known.
    fn granted_ttl(&self, ttl: Duration) -> Duration {
        ttl.max(Duration::from_secs(self.ttl_min.load(Relaxed)))
    }
}

/// Grants leases ahead, and revokes those that are too many.
impl Worker for LeasePool {
    async fn round(&self) -> Option<Duration> {
        let prefetch = std::mem::take(&mut *self.prefetch.lock());
        for ttl in prefetch {
            if !self.spares.has(self.granted_ttl(ttl))
                && let Ok(lease) = self.grant(Action::Acquire, ttl).await
                && let Err(lease) = self.spares.put(lease)
            {
                self.end(lease.id);
            }
        }
        let sweep = self.spares.sweep();
        for lease in sweep.surplus {
            // One that cannot be revoked runs out.
            let _ = self.rpc.revoke(Action::Release, lease.id).await;
        }
        sweep.next_in.map(|next| next.min(REST_MAX))
    }
}

impl Drop for LeasePool {
    fn drop(&mut self) {
        self.rpc.revoke_later(self.spares.drain().iter().map(|lease| lease.id).collect());
    }
}

impl fmt::Debug for LeasePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeasePool").field("spares", &self.spares).finish_non_exhaustive()
    }
}
