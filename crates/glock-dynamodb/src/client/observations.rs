//! `Observations`: which holds a client has seen, and since when each has not changed.

use std::{collections::HashMap, time::Duration};

use glock_core::{OwnerToken, toolkit::Mutex};
use tokio::time::Instant;

use crate::schema::{Hold, Version};

/// Which holds a client has seen, and since when each has not changed.
///
/// DynamoDB has no clock that a condition could use, and the clocks of two clients may differ. So a
/// lease has run out for a client once it has watched the same version of the record for as long as the
/// lease lasts, by its own monotonic clock. It keeps that over its calls, so that a caller that only
/// ever tries gets the lock of a dead holder too. The record alone says who has the lock: a version that
/// has changed meanwhile is not taken over.
#[derive(Debug)]
pub(crate) struct Observations {
    holds: Mutex<HashMap<String, Observation>>,
    most: usize,
}

#[derive(Debug)]
struct Observation {
    version: Version,
    lease: Duration,
    /// When a reply first showed this version, and this owner.
    version_seen: Instant,
    owner_seen: Instant,
    last_seen: Instant,
}

/// What a client knows of a hold.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) version: Version,
    /// At most so much of its lease is left; nothing if it has run out.
    pub(crate) remaining: Duration,
    pub(crate) last_seen: Instant,
    /// How long this owner has had the lock, as far as this client has seen.
    pub(crate) held: Duration,
}

impl Known {
    /// Whether the lease has run out.
    pub(crate) fn is_over(&self) -> bool {
        self.remaining.is_zero()
    }
}

/// How many holds a client remembers: about 2 MiB of them.
const MOST: usize = 10_000;

impl Observations {
    pub(crate) fn new() -> Self {
        Self { holds: Mutex::default(), most: MOST }
    }

    /// Notes that a reply has just shown `hold`. The reply is no older than the hold's last change, so
    /// its lease has run out at the latest when that much time has passed from now.
    pub(crate) fn note(&self, key: &str, hold: &Hold) -> Known {
        self.note_version(key, &hold.version, hold.lease)
    }

    /// Does what [`note`](Self::note) does, for what this client has written itself.
    pub(crate) fn note_version(&self, key: &str, version: &Version, lease: Duration) -> Known {
        let now = Instant::now();
        let mut holds = self.holds.lock();
        if let Some(seen) = holds.get_mut(key) {
            if seen.version.owner != version.owner {
                seen.owner_seen = now;
            }
            if seen.version != *version {
                (seen.version, seen.lease, seen.version_seen) = (version.clone(), lease, now);
            }
            seen.last_seen = now;
            return seen.known(now);
        }
        if holds.len() >= self.most {
            forget_oldest(&mut holds);
        }
        let seen = Observation {
            version: version.clone(),
            lease,
            version_seen: now,
            owner_seen: now,
            last_seen: now,
        };
        holds.entry(key.to_owned()).or_insert(seen).known(now)
    }

    /// What is known of the hold on `key`.
    pub(crate) fn known(&self, key: &str) -> Option<Known> {
        self.holds.lock().get(key).map(|seen| seen.known(Instant::now()))
    }

    /// What is known of the hold on `key`, if `owner` has it.
    pub(crate) fn known_of(&self, key: &str, owner: &OwnerToken) -> Option<Known> {
        self.known(key).filter(|known| known.version.owner == *owner)
    }

    /// The version that may be taken over: its lease has run out.
    pub(crate) fn over(&self, key: &str) -> Option<Version> {
        self.known(key).filter(Known::is_over).map(|known| known.version)
    }

    /// Notes that the lock is free.
    pub(crate) fn forget(&self, key: &str) {
        self.holds.lock().remove(key);
    }
}

impl Observation {
    fn known(&self, now: Instant) -> Known {
        let watched = now.saturating_duration_since(self.version_seen);
        Known {
            version: self.version.clone(),
            remaining: self.lease.saturating_sub(watched),
            last_seen: self.last_seen,
            held: now.saturating_duration_since(self.owner_seen),
        }
    }
}

/// Drops the half that was not seen for longest. Its holds have to be watched from the beginning again,
/// which only makes them last longer.
fn forget_oldest(holds: &mut HashMap<String, Observation>) {
    let mut seen: Vec<_> = holds.values().map(|seen| seen.last_seen).collect();
    let middle = seen.len() / 2;
    let (_, middle, _) = seen.select_nth_unstable(middle);
    let middle = *middle;
    holds.retain(|_, seen| seen.last_seen > middle);
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn version(number: u64) -> Version {
        Version { owner: OwnerToken::new("0123456789abcdef").unwrap(), number }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_over_once_its_version_was_watched_for_as_long() {
        let seen = Observations::new();
        assert!(!seen.note_version("x", &version(1), LEASE).is_over());
        advance(LEASE.saturating_sub(Duration::from_millis(1))).await;
        let known = seen.note_version("x", &version(1), LEASE);
        assert_eq!(known.remaining, Duration::from_millis(1));
        assert!(seen.over("x").is_none());
        advance(Duration::from_millis(1)).await;
        assert!(seen.over("x").is_some_and(|over| over == version(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_starts_the_watch_again_and_an_owner_s_time_goes_on() {
        let seen = Observations::new();
        for number in 1..=5 {
            seen.note_version("x", &version(number), LEASE);
            advance(LEASE * 3 / 4).await;
            assert!(seen.over("x").is_none(), "renewal {number}");
        }
        assert_eq!(seen.known("x").unwrap().held, LEASE * 15 / 4);
        let other = Version { owner: OwnerToken::random().unwrap(), number: 9 };
        assert_eq!(seen.note_version("x", &other, LEASE).held, Duration::ZERO);
        assert!(seen.known_of("x", &version(5).owner).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_longer_lease_counts_from_its_own_version() {
        let seen = Observations::new();
        seen.note_version("x", &version(1), LEASE);
        advance(LEASE).await;
        assert!(!seen.note_version("x", &version(2), LEASE * 3).is_over());
        advance(LEASE * 2).await;
        assert!(seen.over("x").is_none());
        advance(LEASE).await;
        assert!(seen.over("x").is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_the_newest_stays() {
        let seen = Observations { most: 100, ..Observations::new() };
        for n in 0..1_000 {
            seen.note_version(&format!("x{n}"), &version(1), LEASE);
            sleep(Duration::from_millis(1)).await;
            assert!(seen.known(&format!("x{n}")).is_some());
            assert!(seen.holds.lock().len() <= 100);
        }
        assert!(seen.known("x0").is_none());
        seen.forget("x999");
        assert!(seen.known("x999").is_none());
    }
}
