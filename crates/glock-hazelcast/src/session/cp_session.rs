//! `CpSession`: one session of the CP Subsystem, and until when it is known to live.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::toolkit::{Mutex, Reusable, SessionDeadline};
use tokio::time::Instant;

use crate::wire::cp::{GroupId, SessionGrant};

/// One session of the CP Subsystem: of one hold at a time, or of one waiter.
pub(crate) struct CpSession {
    pub(crate) group: GroupId,
    pub(crate) id: i64,
    ttl: Duration,
    heartbeat: Duration,
    deadline: SessionDeadline,
    /// When a request that keeps it alive was sent last.
    last_sent: Mutex<Instant>,
    /// For how many attempts it was used.
    uses: AtomicU32,
    in_doubt: AtomicBool,
}

/// What clocks may differ by, as a part of the TTL.
const MARGIN: u32 = 100;
/// A heartbeat is due after this part of the TTL, so that two may fail.
const HEARTBEAT: u32 = 3;
/// Until a session is closed, members remember its refused attempts, and the last release of each thread.
/// A new one for so many attempts costs two hundredths of a request for each.
const USES_MAX: u32 = 256;

impl CpSession {
    /// A session that was requested at `sent_at`.
    pub(crate) fn new(group: GroupId, grant: SessionGrant, sent_at: Instant) -> Self {
        let session = Self {
            group,
            id: grant.id,
            ttl: grant.ttl,
            heartbeat: grant.heartbeat.min(grant.ttl / HEARTBEAT),
            deadline: SessionDeadline::new(sent_at),
            last_sent: Mutex::new(sent_at),
            uses: AtomicU32::new(0),
            in_doubt: AtomicBool::new(false),
        };
        session.confirmed(sent_at);
        session
    }

    pub(crate) fn deadline(&self) -> &SessionDeadline {
        &self.deadline
    }

    /// Notes that a request which keeps it alive is about to be sent. Returns the time from which it counts.
    pub(crate) fn sending(&self) -> Instant {
        let now = Instant::now();
        *self.last_sent.lock() = now;
        now
    }

    /// Notes that such a request was confirmed.
    pub(crate) fn confirmed(&self, sent_at: Instant) {
        let until = sent_at.checked_add(self.ttl.saturating_sub(self.ttl / MARGIN));
        self.deadline.extend(until.unwrap_or(sent_at));
    }

    /// When the next heartbeat is due.
    pub(crate) fn heartbeat_at(&self) -> Instant {
        *self.last_sent.lock() + self.heartbeat
    }

    pub(crate) fn heartbeat_interval(&self) -> Duration {
        self.heartbeat
    }

    /// Notes that it is used once more.
    pub(crate) fn used(&self) {
        self.uses.fetch_add(1, Relaxed);
    }

    /// Notes that a request of it may still be in flight: it is closed and not used again, after which the
    /// request has no effect.
    pub(crate) fn suspect(&self) {
        self.in_doubt.store(true, Relaxed);
    }

    /// Whether another hold may use it.
    pub(crate) fn is_reusable(&self) -> bool {
        !self.in_doubt.load(Relaxed)
            && self.uses.load(Relaxed) < USES_MAX
            && !self.deadline.has_expired()
    }
}

/// A session without a hold.
#[derive(Debug)]
pub(crate) struct SpareSession(pub(crate) Arc<CpSession>);

impl Reusable for SpareSession {
    fn ttl(&self) -> Duration {
        self.0.ttl
    }

    /// Half of its time is left, which a call does not take.
    fn is_usable(&self, now: Instant) -> bool {
        let left = self.0.deadline.deadline().saturating_duration_since(now);
        self.0.is_reusable() && left > self.0.ttl / 2
    }

    fn has_run_out(&self, now: Instant) -> bool {
        self.0.deadline.deadline() <= now
    }
}

impl fmt::Debug for CpSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpSession").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
