//! `ObservedReservations`: for how long each lock has been reserved, as far as this client has seen it.

use std::{collections::HashMap, fmt, time::Duration};

use tokio::time::Instant;

use super::mutex::Mutex;

/// For how long each lock has been reserved, as far as this client has seen it: by its own clock, for a store
/// that has none to ask. `R` tells two reservations of one lock apart.
pub struct ObservedReservations<R> {
    /// A reservation that was seen for so long is over.
    over_after: Duration,
    seen: Mutex<HashMap<String, Seen<R>>>,
}

struct Seen<R> {
    reservation: R,
    since: Instant,
    last: Instant,
}

/// A lock that was not looked at for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

impl<R: PartialEq> ObservedReservations<R> {
    /// Nothing was seen yet.
    pub fn new(over_after: Duration) -> Self {
        Self { over_after, seen: Mutex::default() }
    }

    /// Notes that the lock at `key` is reserved. Returns for how long this client has seen this reservation.
    pub fn note(&self, key: &str, reservation: R) -> Duration {
        let (mut seen, now) = (self.seen.lock(), Instant::now());
        seen.retain(|_, seen| now.duration_since(seen.last) < FORGOTTEN_AFTER);
        match seen.get_mut(key) {
            Some(known) if known.reservation == reservation => {
                known.last = now;
                now.duration_since(known.since)
            }
            _ => {
                seen.insert(key.into(), Seen { reservation, since: now, last: now });
                Duration::ZERO
            }
        }
    }

    /// Notes that the lock at `key` is reserved. Returns whether this reservation is over.
    pub fn is_over(&self, key: &str, reservation: R) -> bool {
        self.note(key, reservation) >= self.over_after
    }

    /// Notes that the lock at `key` is not reserved.
    pub fn none(&self, key: &str) {
        self.seen.lock().remove(key);
    }

    /// In how long the next of the reservations is over, if there are any that are not over yet.
    pub fn over_in(&self) -> Option<Duration> {
        let (seen, now) = (self.seen.lock(), Instant::now());
        let left = |seen: &Seen<R>| self.over_after.saturating_sub(now.duration_since(seen.since));
        seen.values().map(left).filter(|left| !left.is_zero()).min()
    }
}

impl<R> fmt::Debug for ObservedReservations<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedReservations")
            .field("seen", &self.seen.lock().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const OVER_AFTER: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn a_reservation_is_over_when_it_was_seen_for_long_enough() {
        let seen = ObservedReservations::new(OVER_AFTER);
        assert_eq!(seen.over_in(), None);
        assert!(!seen.is_over("a", 7));
        advance(OVER_AFTER / 2).await;
        assert!(!seen.is_over("a", 7) && !seen.is_over("b", 9));
        assert_eq!(seen.over_in(), Some(OVER_AFTER / 2));
        advance(OVER_AFTER / 2).await;
        assert!(seen.is_over("a", 7) && !seen.is_over("b", 9));
        assert_eq!(seen.over_in(), Some(OVER_AFTER / 2), "that of a is over");
        // It was reserved for the next one.
        assert!(!seen.is_over("a", 8));
        advance(OVER_AFTER).await;
        assert!(seen.is_over("a", 8));
        seen.none("a");
        assert!(!seen.is_over("a", 8));
        advance(FORGOTTEN_AFTER).await;
        assert!(!seen.is_over("b", 9), "nobody looked at it meanwhile");
    }
}
