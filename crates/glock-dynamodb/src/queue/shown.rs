//! `Shown`: a lock as a reply has shown it.

use std::time::Duration;

use glock_core::FencingToken;

use crate::{
    client::Known,
    queue::{pauses::POLL_MIN, turns::TURN_MAX},
    schema::Record,
};

/// A lock as a reply has shown it.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) record: Record,
    /// What is known of the hold. `None`: the lock is free.
    pub(crate) known: Option<Known>,
    /// For how long the lock has been free for the same first waiter, as far as this client has seen.
    pub(crate) free_for: Duration,
}

impl Shown {
    /// A lock that this client has just taken, and its waiters.
    pub(crate) fn held(known: Known, fence: FencingToken, waiters: Vec<String>) -> Self {
        let record = Record { fence, number: known.version.number, hold: None, waiters };
        Self { record, known: Some(known), free_for: Duration::ZERO }
    }

    /// Whether a caller without a place may take the lock.
    pub(crate) fn is_free(&self) -> bool {
        self.known.is_none() && self.record.waiters.is_empty()
    }

    /// Whether a holder keeps the first waiter out.
    pub(crate) fn is_held(&self) -> bool {
        self.known.as_ref().is_some_and(|known| !known.is_over())
    }

    /// Whether this waiter is in the queue.
    pub(crate) fn has_place(&self, waiter: &str) -> bool {
        self.record.waiters.iter().any(|place| place == waiter)
    }

    /// In how long one that has so many waiters before it sees that the lease or the first waiter's turn has ended:
    /// the first one sees it first. What has ended before ends no pause.
    pub(crate) fn ends_in(&self, place: usize) -> Duration {
        let ends_in = match &self.known {
            Some(known) => known.remaining,
            None => TURN_MAX.saturating_sub(self.free_for),
        };
        if ends_in.is_zero() {
            return Duration::MAX;
        }
        let places = u32::try_from(place).unwrap_or(u32::MAX);
        ends_in.saturating_add(POLL_MIN.saturating_mul(places))
    }

    /// For how long the lock has been as it is.
    pub(crate) fn unchanged(&self) -> Duration {
        self.known.as_ref().map_or(self.free_for, |known| known.held)
    }
}

#[cfg(test)]
mod tests {
    use glock_core::OwnerToken;
    use tokio::time::Instant;

    use super::*;
    use crate::schema::Version;

    #[test]
    fn no_pause_outlasts_a_lease_and_one_that_is_over_ends_none() {
        let version = Version { owner: OwnerToken::new("0123456789abcdef").unwrap(), number: 1 };
        let remaining = Duration::from_millis(300);
        let known = Known { version, remaining, last_seen: Instant::now(), held: remaining };
        let mut shown = Shown::held(known, FencingToken::new(1), Vec::new());
        assert_eq!(shown.ends_in(0), remaining);
        assert_eq!(shown.ends_in(3), remaining + 3 * POLL_MIN);
        shown.known = shown.known.map(|known| Known { remaining: Duration::ZERO, ..known });
        assert_eq!(shown.ends_in(0), Duration::MAX);
        shown.known = None;
        assert_eq!(shown.ends_in(0), TURN_MAX);
        shown.free_for = TURN_MAX;
        assert_eq!(shown.ends_in(0), Duration::MAX);
    }
}
