//! `Reservations`: for how long each lock has been reserved, as far as this client has seen it.

use std::{collections::HashMap, time::Duration};

use glock_core::toolkit::{Mutex, RESERVED_FOR};
use tokio::time::Instant;

/// For how long each lock has been reserved, as far as this client has seen it: by its own clock, because
/// Consul has none to ask. A reservation that is made again has another index.
#[derive(Debug, Default)]
pub(crate) struct Reservations(Mutex<HashMap<String, Seen>>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    index: u64,
    since: Instant,
    last: Instant,
}

/// A lock that was not looked at for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

impl Reservations {
    /// Notes that the lock at `key` is reserved since the Raft index `index`, and returns whether that is over.
    pub(crate) fn is_over(&self, key: &str, index: u64) -> bool {
        self.note(key, index) >= RESERVED_FOR
    }

    /// Notes that the lock at `key` is reserved since the Raft index `index`. Returns for how long this client has
    /// seen that.
    pub(crate) fn note(&self, key: &str, index: u64) -> Duration {
        let (mut seen, now) = (self.0.lock(), Instant::now());
        seen.retain(|_, seen| now.duration_since(seen.last) < FORGOTTEN_AFTER);
        let new = Seen { index, since: now, last: now };
        let known = seen.entry(key.into()).or_insert(new);
        if known.index != index {
            *known = new;
        }
        known.last = now;
        now.duration_since(known.since)
    }

    /// The lock at `key` is not reserved.
    pub(crate) fn none(&self, key: &str) {
        self.0.lock().remove(key);
    }

    /// In how long the next of the reservations is over, if there are any that are not over yet.
    pub(crate) fn over_in(&self) -> Option<Duration> {
        let (seen, now) = (self.0.lock(), Instant::now());
        let left = |seen: &Seen| RESERVED_FOR.saturating_sub(now.duration_since(seen.since));
        seen.values().map(left).filter(|left| !left.is_zero()).min()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_reservation_is_over_when_it_was_seen_for_long_enough() {
        let seen = Reservations::default();
        assert_eq!(seen.over_in(), None);
        assert!(!seen.is_over("a", 7));
        advance(RESERVED_FOR / 2).await;
        assert!(!seen.is_over("a", 7) && !seen.is_over("b", 9));
        assert_eq!(seen.over_in(), Some(RESERVED_FOR / 2));
        advance(RESERVED_FOR / 2).await;
        assert!(seen.is_over("a", 7) && !seen.is_over("b", 9));
        assert_eq!(seen.over_in(), Some(RESERVED_FOR / 2), "that of a is over");
        // It was reserved for the next one.
        assert!(!seen.is_over("a", 8));
        advance(RESERVED_FOR).await;
        assert!(seen.is_over("a", 8));
        seen.none("a");
        assert!(!seen.is_over("a", 8));
        advance(FORGOTTEN_AFTER).await;
        assert!(!seen.is_over("b", 9), "nobody looked at it meanwhile");
    }
}
