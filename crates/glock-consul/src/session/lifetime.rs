//! `Session`: a session of Consul's, and until when it is known to live.

use std::time::Duration;

use glock_core::toolkit::Reusable;
use tokio::time::Instant;

/// A session, and until when it is known to live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) ttl: Duration,
    /// When the last request was sent that started its TTL. It lives for at least a TTL from here, and
    /// for at most two.
    pub(crate) renewed_at: Instant,
}

impl Session {
    /// Whether its TTL has run out. A server that is about to end a session still replies that it has
    /// renewed it.
    pub(crate) fn may_be_over(&self, now: Instant) -> bool {
        self.age(now) >= self.ttl
    }

    /// Notes a renewal whose request was sent at `sent_at`, if its reply, which has just arrived, proves
    /// that the session lives: it arrived before the last TTL had run out. Returns whether it does.
    pub(crate) fn renewed(&mut self, sent_at: Instant) -> bool {
        let proven = !self.may_be_over(Instant::now());
        if proven {
            self.renewed_at = sent_at;
        }
        proven
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.renewed_at)
    }
}

impl Reusable for Session {
    fn ttl(&self) -> Duration {
        self.ttl
    }

    fn is_usable(&self, now: Instant) -> bool {
        !self.may_be_over(now)
    }

    fn has_run_out(&self, now: Instant) -> bool {
        self.age(now) >= self.ttl * 2
    }
}
