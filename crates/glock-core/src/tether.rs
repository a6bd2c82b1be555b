//! `Tether`: how long the session that leases hang on is known to live.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// How long the session that leases hang on is known to live, for stores that end a client's locks
/// together with its session. Clones share it.
///
/// A lease that is [`tethered`](crate::Lease::tethered) is over when its TTL has run out or when
/// the session may have, whichever is first. The backend moves the end on with each proof that the
/// session lives, so that a process that was paused sees at its next look, and not only when some
/// task has got to run, that its session may be gone.
#[derive(Clone)]
pub struct Tether {
    shared: Arc<Shared>,
}

struct Shared {
    born: Instant,
    /// Nanoseconds since `born`; `CUT` is before everything.
    until: AtomicU64,
    cut: Notify,
}

/// No proof moves the end of a session that is over.
const CUT: u64 = 0;

impl Tether {
    /// A session that lives until `until` unless more is heard of it.
    pub fn new(until: Instant) -> Self {
        let born = Instant::now();
        let tether = Self {
            shared: Arc::new(Shared { born, until: AtomicU64::new(1), cut: Notify::new() }),
        };
        tether.extend(until);
        tether
    }

    /// Notes a proof that the session lives until `until`. An earlier end than the known one
    /// changes nothing, and nothing brings a session back that was cut.
    pub fn extend(&self, until: Instant) {
        let until = nanos(until.saturating_duration_since(self.shared.born));
        let _ = self.shared.until.fetch_update(Relaxed, Relaxed, |known| {
            (known != CUT && known < until).then_some(until)
        });
    }

    /// Notes that the session is over, for good.
    pub fn cut(&self) {
        self.shared.until.store(CUT, Relaxed);
        self.shared.cut.notify_waiters();
    }

    /// Whether the session is known to be over.
    pub fn is_cut(&self) -> bool {
        self.shared.until.load(Relaxed) == CUT
    }

    /// Until when the session is known to live.
    pub fn deadline(&self) -> Instant {
        let until = Duration::from_nanos(self.shared.until.load(Relaxed));
        self.shared.born.checked_add(until).unwrap_or(self.shared.born)
    }

    /// Whether the session is known to live at `now`: for looks that must be quick.
    pub(crate) fn lives_at(&self, now: Instant) -> bool {
        nanos(now.saturating_duration_since(self.shared.born)) < self.shared.until.load(Relaxed)
    }

    /// Returns once the session is over.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn was_cut(&self) {
        let cut = self.shared.cut.notified();
        if !self.is_cut() {
            cut.await;
        }
    }
}

/// Two are the same if they stand for the same session.
impl PartialEq for Tether {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Tether {}

impl fmt::Debug for Tether {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remaining = self.deadline().saturating_duration_since(Instant::now());
        f.debug_struct("Tether").field("remaining", &remaining).finish()
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
        let tether = Tether::new(start + SECOND);
        tether.extend(start + 3 * SECOND);
        tether.extend(start + 2 * SECOND);
        assert_eq!(tether.deadline(), start + 3 * SECOND);
        advance(5 * SECOND).await;
        tether.extend(start + 6 * SECOND);
        assert_eq!(tether.deadline(), start + 6 * SECOND, "late proof is proof");
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_is_over_stays_over() {
        let start = Instant::now();
        let tether = Tether::new(start + SECOND);
        assert!(timeout(SECOND, tether.was_cut()).await.is_err());
        tether.cut();
        tether.extend(start + 9 * SECOND);
        assert!(tether.is_cut() && tether.deadline() <= start);
        assert!(timeout(SECOND, tether.was_cut()).await.is_ok());
    }
}
