//! `HoldView`: a view of a hold, and what the guard and its task share.

use std::{
    fmt, mem,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::{self, Instant},
};

use crate::{
    FencingToken, Lease, LockError, LockId, LossReason,
    toolkit::{Mutex, PendingEntry, SessionDeadline, nanos},
};

/// A guard's request to release. It is sent in a box, so that a held lock is small.
pub(crate) struct ReleaseRequest {
    /// Where the task replies, unless the guard was dropped.
    pub(crate) reply: Option<oneshot::Sender<Result<(), LockError>>>,
    /// Counts the release until it is done.
    pub(crate) pending: PendingEntry,
}

/// Where a guard requests the release. It costs a held lock less than a channel.
enum Releasing {
    NotYet,
    Requested(Box<ReleaseRequest>),
    /// The task has taken the request, or is gone.
    Over,
}

/// How long before the deadline a loss is reported: a twentieth of the TTL, within these limits.
/// Tokio's timers round up to milliseconds, and a task that is ready waits until it runs: up to 4.4 ms
/// were seen on two busy cores.
const LEAD_PART: u32 = 20;
const LEAD_MIN: Duration = Duration::from_millis(2);
const LEAD_MAX: Duration = Duration::from_millis(10);

/// How long before its deadline the loss of a lease of this TTL is reported.
pub(crate) fn loss_lead(ttl: Duration) -> Duration {
    (ttl / LEAD_PART).clamp(LEAD_MIN, LEAD_MAX)
}

/// A view of a hold, cheap to clone. It keeps nothing: only the [`Guard`](crate::Guard) keeps the lock.
#[derive(Clone)]
pub struct HoldView {
    shared: Arc<Shared>,
}

impl HoldView {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

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

    /// Returns once the hold is over: why it was lost, or `None` if it was released.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&self) -> Option<LossReason> {
        self.shared.over().await
    }
}

impl fmt::Debug for HoldView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HoldView")
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
    /// The TTL of the lease, in nanoseconds.
    ttl: AtomicU64,
    born: Instant,
    /// The end of the TTL.
    deadline: AtomicU64,
    /// The session that the first lease is bound to, where the store has such.
    session: OnceLock<SessionDeadline>,
    hold_until: AtomicU64,
    /// Set once, when the hold is over: the reason of its loss, or `None` if it was released.
    end: OnceLock<Option<LossReason>>,
    ended: Notify,
    releasing: Mutex<Releasing>,
    /// Wakes the task when `hold_until` or `releasing` has changed.
    pub(crate) changed: Notify,
}

impl Shared {
    pub(crate) fn new(lease: &Lease) -> Self {
        let shared = Self {
            id: lease.id().clone(),
            fence: lease.fence(),
            ttl: AtomicU64::new(0),
            born: Instant::now(),
            deadline: AtomicU64::new(0),
            session: OnceLock::new(),
            hold_until: AtomicU64::new(u64::MAX),
            end: OnceLock::new(),
            ended: Notify::new(),
            releasing: Mutex::new(Releasing::NotYet),
            changed: Notify::new(),
        };
        shared.extend(lease);
        shared
    }

    pub(crate) fn id(&self) -> &LockId {
        &self.id
    }

    pub(crate) fn fence(&self) -> FencingToken {
        self.fence
    }

    /// Limits how long the lock may be renewed.
    pub(crate) fn hold_for(&self, max_hold: Duration) {
        self.hold_until.store(nanos(max_hold), Relaxed);
        self.changed.notify_one();
    }

    /// Requests the release. Without the task it drops the request, and with it the sender of the reply.
    pub(crate) fn request_release(&self, request: Box<ReleaseRequest>) {
        let mut releasing = self.releasing.lock();
        if matches!(*releasing, Releasing::NotYet) {
            *releasing = Releasing::Requested(request);
            drop(releasing);
            self.changed.notify_one();
        }
    }

    /// The guard's request, if it has made one. Only the task calls it.
    pub(crate) fn release_request(&self) -> Option<Box<ReleaseRequest>> {
        let mut releasing = self.releasing.lock();
        match mem::replace(&mut *releasing, Releasing::Over) {
            Releasing::Requested(request) => Some(request),
            before => {
                *releasing = before;
                None
            }
        }
    }

    /// Waits for the guard's request. Only the task calls it.
    pub(crate) async fn release_requested(&self) -> Box<ReleaseRequest> {
        loop {
            if let Some(request) = self.release_request() {
                return request;
            }
            self.changed.notified().await;
        }
    }

    /// The task ends: drops the request that the guard has made, if the task has not taken it, and each later one.
    pub(crate) fn close(&self) {
        // Dropped when the mutex is free again.
        let _request = mem::replace(&mut *self.releasing.lock(), Releasing::Over);
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
        if let Some(session) = lease.session() {
            self.session.get_or_init(|| session.clone());
        }
        // A lease that has moved to another session is trusted as far as it reaches now.
        let follows = lease.session() == self.session.get();
        let deadline = if follows { lease.term() } else { lease.deadline() };
        self.deadline.store(nanos(deadline.saturating_duration_since(self.born)), Relaxed);
        // After the deadline, and read before it: the lead of a longer TTL must not meet the old deadline.
        self.ttl.store(nanos(lease.ttl()), Release);
    }

    /// Ends the hold; the first call decides how. Returns how it ended.
    pub(crate) fn end(&self, end: Option<LossReason>) -> Option<LossReason> {
        let end = *self.end.get_or_init(|| end);
        self.ended.notify_waiters();
        end
    }

    pub(crate) fn not_held(&self) -> LockError {
        LockError::NotHeld { id: self.id.clone() }
    }

    pub(crate) fn is_valid(&self) -> bool {
        let now = Instant::now();
        self.end.get().is_none()
            && nanos(now.saturating_duration_since(self.born)) < self.deadline.load(Relaxed)
            && self.session.get().is_none_or(|session| session.lives_at(now))
    }

    pub(crate) fn remaining(&self) -> Duration {
        if self.end.get().is_some() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let deadline = Duration::from_nanos(self.deadline.load(Relaxed));
        let left = deadline.saturating_sub(now.saturating_duration_since(self.born));
        let session = self.session.get().map(SessionDeadline::deadline);
        session.map_or(left, |until| left.min(until.saturating_duration_since(now)))
    }

    fn lead(&self) -> Duration {
        loss_lead(Duration::from_nanos(self.ttl.load(Acquire)))
    }

    /// Keeps the deadline by itself as well, in case the task that renews does not get to run.
    pub(crate) async fn over(&self) -> Option<LossReason> {
        loop {
            let ended = self.ended.notified();
            if let Some(end) = self.end.get() {
                return *end;
            }
            let lead = self.lead();
            let remaining = self.remaining().saturating_sub(lead);
            if remaining.is_zero() {
                return self.end(Some(self.run_out()));
            }
            let _ = time::timeout(remaining, ended).await;
        }
    }
}
