//! `SessionDeadline`: until when the session that leases are bound to is known to live.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Until when the session that leases are bound to is known to live, for stores that end a client's
/// locks together with its session. Clones share it.
///
/// A lease that is [`bound_to`](crate::Lease::bound_to) a session is over when its TTL has run out or
/// when the session may have ended, whichever is first. The store's crate moves the deadline with each
/// proof that the session lives. So a process that was paused sees at once that its session may be
/// gone, before any of its tasks has run.
#[derive(Clone)]
pub struct SessionDeadline {
    shared: Arc<Shared>,
}

struct Shared {
    born: Instant,
    /// Nanoseconds since `born`; `EXPIRED` is before everything.
    until: AtomicU64,
    ended: Notify,
}

/// No proof moves the end of a session that is over.
const EXPIRED: u64 = 0;

impl SessionDeadline {
    /// A session that lives until `until` unless a later proof arrives.
    pub fn new(until: Instant) -> Self {
        let born = Instant::now();
        let session = Self {
            shared: Arc::new(Shared { born, until: AtomicU64::new(1), ended: Notify::new() }),
        };
        session.extend(until);
        session
    }

    /// Notes a proof that the session lives until `until`. An earlier end than the known one
    /// changes nothing, and nothing revives a session that has expired.
    pub fn extend(&self, until: Instant) {
        let until = nanos(until.saturating_duration_since(self.shared.born));
        let _ = self.shared.until.fetch_update(Relaxed, Relaxed, |known| {
            (known != EXPIRED && known < until).then_some(until)
        });
    }

    /// Notes that the session is over, for good.
    pub fn expire(&self) {
        self.shared.until.store(EXPIRED, Relaxed);
        self.shared.ended.notify_waiters();
    }

    /// Whether the session is known to be over.
    pub fn has_expired(&self) -> bool {
        self.shared.until.load(Relaxed) == EXPIRED
    }

    /// Until when the session is known to live.
    pub fn deadline(&self) -> Instant {
        let until = Duration::from_nanos(self.shared.until.load(Relaxed));
        self.shared.born.checked_add(until).unwrap_or(self.shared.born)
    }

    /// Whether the session is known to live at `now`: quick, for `is_valid`.
    pub(crate) fn lives_at(&self, now: Instant) -> bool {
        nanos(now.saturating_duration_since(self.shared.born)) < self.shared.until.load(Relaxed)
    }

    /// Returns once the session is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn expired(&self) {
        let ended = self.shared.ended.notified();
        if !self.has_expired() {
            ended.await;
        }
    }
}

/// Two are the same if they stand for the same session.
impl PartialEq for SessionDeadline {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for SessionDeadline {}

impl fmt::Debug for SessionDeadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remaining = self.deadline().saturating_duration_since(Instant::now());
        f.debug_struct("SessionDeadline").field("remaining", &remaining).finish()
    }
}

/// Saturates after 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    // Not by `as_nanos`: 128 bits take their time.
    let nanos = duration.as_secs().saturating_mul(1_000_000_000);
    nanos.saturating_add(duration.subsec_nanos().into())
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_end_moves_on_and_never_back() {
        let start = Instant::now();
        let session = SessionDeadline::new(start + SECOND);
        session.extend(start + 3 * SECOND);
        session.extend(start + 2 * SECOND);
        assert_eq!(session.deadline(), start + 3 * SECOND);
        advance(5 * SECOND).await;
        session.extend(start + 6 * SECOND);
        assert_eq!(session.deadline(), start + 6 * SECOND, "late proof is proof");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_over_stays_over() {
        let start = Instant::now();
        let session = SessionDeadline::new(start + SECOND);
        assert!(timeout(SECOND, session.expired()).await.is_err());
        session.expire();
        session.extend(start + 9 * SECOND);
        assert!(session.has_expired() && session.deadline() <= start);
        assert!(timeout(SECOND, session.expired()).await.is_ok());
    }
}
