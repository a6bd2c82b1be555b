//! `Guard` and `Hold`: a lock that is held and kept alive, and a view of it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{self, Instant},
};

use crate::{
    Action, Fault, FencingToken, Lease, Lock, LockError, LockId, LossReason, Tether,
    renewal::Renewal, tether::nanos,
};

/// Where a guard asks its task to release, and is told how that went.
pub(crate) type Order = oneshot::Sender<Result<(), LockError>>;

/// Tokio's timers round up to milliseconds, and tasks wait for their turn: set this much earlier,
/// they tell a loss by the deadline and not after it.
pub(crate) const TIMER_LEAD: Duration = Duration::from_millis(2);

/// A held lock, kept alive by one task in the background until it is released, dropped or lost.
///
/// The lease is renewed at a third of its TTL, and a renewal that fails is tried again until the
/// lease's deadline. Look at [`is_valid`](Self::is_valid) right before each side effect, or race
/// the work against [`lost`](Self::lost); and hand [`fence`](Self::fence) to what the lock
/// protects, because a process that is paused in between cannot be told.
///
/// # Drop
///
/// Dropping a guard makes its task release the lock: soon, not at once. An error then goes
/// unnoticed; call [`release`](Self::release) to see it.
#[must_use = "dropping a guard releases its lock"]
pub struct Guard {
    shared: Arc<Shared>,
    /// Dropping it tells the task to release and to expect no one to ask how that went.
    order: Option<oneshot::Sender<Order>>,
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
        let (order, orders) = oneshot::channel();
        let carrier = lock.carrier();
        let task = Renewal::new(lock, lease, ttl, Arc::clone(&shared), orders).run();
        match carrier {
            Some(carry) => runtime.spawn(carry(Box::pin(task))),
            None => runtime.spawn(task),
        };
        Ok(Self { shared, order: Some(order) })
    }

    /// Stops renewing once the lock has been held for `max_hold`, so that a holder that is stuck
    /// loses it: the lease then runs out, at most one TTL later.
    pub fn with_max_hold(self, max_hold: Duration) -> Self {
        self.shared.hold_until.store(nanos(max_hold), Relaxed);
        self.shared.changed.notify_one();
        self
    }

    /// The lock.
    pub fn id(&self) -> &LockId {
        &self.shared.id
    }

    /// The fencing token of the hold. No I/O.
    pub fn fence(&self) -> FencingToken {
        self.shared.fence
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
            // A guard that was let go is gone, so nobody is left to ask.
            None => std::future::pending().await,
        }
    }

    /// A view of this hold, to be cloned into whatever works under the lock.
    pub fn view(&self) -> Hold {
        Hold { shared: Arc::clone(&self.shared) }
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
        let (order, answer) = oneshot::channel();
        let sent = self.order.take().map(|task| task.send(order));
        match sent {
            Some(Ok(())) => answer.await.unwrap_or_else(|_| Err(self.shared.not_held())),
            _ => Err(self.shared.not_held()),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.view()).finish()
    }
}

/// A view of a hold: cheap to clone, and free of any duty. The [`Guard`] alone keeps the lock.
#[derive(Clone)]
pub struct Hold {
    shared: Arc<Shared>,
}

impl Hold {
    /// The lock.
    pub fn id(&self) -> &LockId {
        &self.shared.id
    }

    /// The fencing token of the hold. No I/O.
    pub fn fence(&self) -> FencingToken {
        self.shared.fence
    }

    /// Whether the lock is still held. No I/O, no allocation.
    pub fn is_valid(&self) -> bool {
        self.shared.is_valid()
    }

    /// What is left until the lease's deadline; zero once the hold is over. No I/O.
    pub fn remaining(&self) -> Duration {
        self.shared.remaining()
    }

    /// Returns once the hold is over: why it was lost, or `None` if it was let go.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&self) -> Option<LossReason> {
        self.shared.over().await
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold")
            .field("id", &self.shared.id)
            .field("fence", &self.shared.fence.get())
            .field("remaining", &self.shared.remaining())
            .finish_non_exhaustive()
    }
}

/// What a guard, its views and its task share. Times are nanoseconds since `born`.
pub(crate) struct Shared {
    id: LockId,
    fence: FencingToken,
    born: Instant,
    /// The end of the TTL.
    deadline: AtomicU64,
    /// The session that the first lease hangs on, where the store has such.
    tether: OnceLock<Tether>,
    hold_until: AtomicU64,
    /// Set once, when the hold is over: the reason of its loss, or `None` if it was let go.
    end: OnceLock<Option<LossReason>>,
    ended: Notify,
    /// Wakes the task when `hold_until` has changed.
    pub(crate) changed: Notify,
}

impl Shared {
    fn new(lease: &Lease) -> Self {
        let shared = Self {
            id: lease.id().clone(),
            fence: lease.fence(),
            born: Instant::now(),
            deadline: AtomicU64::new(0),
            tether: OnceLock::new(),
            hold_until: AtomicU64::new(u64::MAX),
            end: OnceLock::new(),
            ended: Notify::new(),
            changed: Notify::new(),
        };
        shared.extend(lease);
        shared
    }

    /// How long the lock has been held.
    pub(crate) fn held(&self) -> Duration {
        self.born.elapsed()
    }

    /// Until when it may be renewed, or `None` for no limit.
    pub(crate) fn hold_until(&self) -> Option<Instant> {
        let nanos = self.hold_until.load(Relaxed);
        if nanos == u64::MAX { None } else { self.born.checked_add(Duration::from_nanos(nanos)) }
    }

    /// Why the hold was lost, if it was.
    pub(crate) fn lost(&self) -> Option<LossReason> {
        self.end.get().copied().flatten()
    }

    /// Why a lease that was not renewed in time is lost.
    pub(crate) fn run_out(&self) -> LossReason {
        let stuck = self.hold_until().is_some_and(|until| until <= Instant::now());
        if stuck { LossReason::MaxHold } else { LossReason::Expired }
    }

    pub(crate) fn extend(&self, lease: &Lease) {
        if let Some(tether) = lease.tether() {
            self.tether.get_or_init(|| tether.clone());
        }
        // A lease that has moved to another session is trusted as far as it reaches now.
        let follows = lease.tether() == self.tether.get();
        let deadline = if follows { lease.term() } else { lease.deadline() };
        self.deadline.store(nanos(deadline.saturating_duration_since(self.born)), Relaxed);
    }

    /// Ends the hold; whoever comes first says how. Returns how it ended.
    pub(crate) fn end(&self, end: Option<LossReason>) -> Option<LossReason> {
        let end = *self.end.get_or_init(|| end);
        self.ended.notify_waiters();
        end
    }

    pub(crate) fn not_held(&self) -> LockError {
        LockError::NotHeld { id: self.id.clone() }
    }

    fn is_valid(&self) -> bool {
        let now = Instant::now();
        self.end.get().is_none()
            && nanos(now.saturating_duration_since(self.born)) < self.deadline.load(Relaxed)
            && self.tether.get().is_none_or(|tether| tether.lives_at(now))
    }

    fn remaining(&self) -> Duration {
        if self.end.get().is_some() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let deadline = Duration::from_nanos(self.deadline.load(Relaxed));
        let left = deadline.saturating_sub(now.saturating_duration_since(self.born));
        let tether = self.tether.get().map(Tether::deadline);
        tether.map_or(left, |until| left.min(until.saturating_duration_since(now)))
    }

    /// Keeps the deadline by itself as well, in case the task that renews does not get to run.
    async fn over(&self) -> Option<LossReason> {
        loop {
            let ended = self.ended.notified();
            if let Some(end) = self.end.get() {
                return *end;
            }
            let remaining = self.remaining().saturating_sub(TIMER_LEAD);
            if remaining.is_zero() {
                return self.end(Some(self.run_out()));
            }
            let _ = time::timeout(remaining, ended).await;
        }
    }
}
