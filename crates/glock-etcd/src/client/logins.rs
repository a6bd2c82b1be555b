//! `Logins`: whether the members accept the credentials, and since when they do not.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use glock_core::toolkit::Mutex;
use tokio::time::Instant;

/// Whether the members accept the credentials. A password is changed in two places, one after the other:
/// in between, the members refuse what they accepted before, and what the application's function yields
/// may be old or new.
#[derive(Default)]
pub(crate) struct Logins {
    /// Whether the last request was accepted.
    accepted: AtomicBool,
    /// Since when they refuse what they had accepted before.
    refused_since: Mutex<Option<Instant>>,
}

impl Logins {
    /// Notes that a member replied to a request of this client.
    pub(crate) fn accepted(&self) {
        // Each reply comes here: the usual case writes nothing.
        if !self.accepted.load(Relaxed) {
            *self.refused_since.lock() = None;
            self.accepted.store(true, Relaxed);
        }
    }

    /// Notes that a member refused a login. `true` if that may pass by itself: credentials were accepted
    /// before, and have been refused for less than `limit`.
    pub(crate) fn refused_may_pass(&self, limit: Duration) -> bool {
        let mut since = self.refused_since.lock();
        if self.accepted.swap(false, Relaxed) {
            *since = Some(Instant::now());
        }
        since.is_some_and(|since| since.elapsed() < limit)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn what_was_never_accepted_is_refused_at_once() {
        let logins = Logins::default();
        assert!(!logins.refused_may_pass(LIMIT));
        assert!(!logins.refused_may_pass(LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_accepted_before_may_pass_for_a_while() {
        let logins = Logins::default();
        for _ in 0..2 {
            logins.accepted();
            assert!(logins.refused_may_pass(LIMIT));
            advance(LIMIT / 5 * 4).await;
            assert!(logins.refused_may_pass(LIMIT));
            advance(LIMIT / 5).await;
            assert!(!logins.refused_may_pass(LIMIT));
            assert!(!logins.refused_may_pass(LIMIT));
        }
    }
}
