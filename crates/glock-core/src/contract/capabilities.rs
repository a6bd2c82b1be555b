//! `Capabilities`: what a caller must know before it trusts a store.

use std::time::Duration;

use crate::LockError;

/// The longest TTL of a store that has no limit of its own: a year.
pub const TTL_MAX: Duration = Duration::from_hours(365 * 24);

/// What a store promises beyond the contract of [`Lock`](crate::Lock), and where it falls short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The shortest TTL; a shorter one is [`LockError::Invalid`].
    pub ttl_min: Duration,
    /// The longest TTL; a longer one is [`LockError::Invalid`]. A multiple of `ttl_step`.
    pub ttl_max: Duration,
    /// What the store counts in: TTLs are rounded up to a multiple of it.
    pub ttl_step: Duration,
    /// How late an expiry may be at worst, beside `expiry_lag_percent`.
    pub expiry_lag: Duration,
    /// How late an expiry may be at worst, as a part of the TTL: 100 for "up to twice the TTL".
    pub expiry_lag_percent: u16,
    /// Whose clock decides that a lease is over.
    pub clock: Clock,
    /// Whether a hold ends when the client that took it is gone, before its TTL too.
    pub ends_with_client: bool,
    /// Whether a waiter is woken or has to ask.
    pub waiting: Waiting,
    /// In which order waiters are served.
    pub fairness: Fairness,
    /// What could set a fencing token back.
    pub fencing: Fencing,
}

/// Whose clock decides that a lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Clock {
    /// The store's.
    Store,
    /// That of the client that wants the lock next: the store has none, so the client watches the
    /// record for one whole lease on its own monotonic clock.
    Observer,
    /// The holder's client ends the lease at its TTL, and the store ends it with the client's
    /// session if that is gone: `expiry_lag` later at worst.
    Session,
}

/// Whether a waiter is woken or has to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Waiting {
    /// The store wakes the waiter.
    Pushed,
    /// The client asks from time to time, with jitter.
    Polled,
}

/// In which order waiters are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fairness {
    /// In the order in which they came within one client; between clients by chance.
    Client,
    /// In the order in which the store saw them, whichever client they belong to.
    Store,
}

/// What could set a fencing token back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fencing {
    /// Only restoring the store from an older copy of its data.
    Restore,
    /// The loss of writes that the store had confirmed, such as a failover to a replica that
    /// lagged behind.
    LostWrites,
    /// The loss of confirmed writes together with a clock of the store that went back.
    LostWritesAndClock,
}

impl Capabilities {
    /// TTLs from `ttl_min` to a year in whole milliseconds, no lag, the store's clock, holds that outlive
    /// their client, polled waiting, served in the client's order, tokens that only a restored copy sets
    /// back. Change what differs.
    pub const fn new(ttl_min: Duration) -> Self {
        Self {
            ttl_min,
            ttl_max: TTL_MAX,
            ttl_step: Duration::from_millis(1),
            expiry_lag: Duration::ZERO,
            expiry_lag_percent: 0,
            clock: Clock::Store,
            ends_with_client: false,
            waiting: Waiting::Polled,
            fairness: Fairness::Client,
            fencing: Fencing::Restore,
        }
    }

    /// The TTL to ask the store for: `ttl` rounded up to a multiple of `ttl_step`.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if it is shorter than `ttl_min` or, rounded up, longer than `ttl_max`.
    pub fn ttl(&self, ttl: Duration) -> Result<Duration, LockError> {
        if ttl < self.ttl_min {
            let reason =
                format!("{ttl:?} is too short; this store's shortest is {:?}", self.ttl_min);
            return Err(LockError::invalid("ttl", reason));
        }
        let step = self.ttl_step.as_nanos().max(1);
        let rounded = ttl.as_nanos().div_ceil(step) * step;
        // Rounded first, so that what is returned may be rounded again: by the store, and for each renewal.
        match u64::try_from(rounded).map(Duration::from_nanos) {
            Ok(rounded) if rounded <= self.ttl_max => Ok(rounded),
            _ => {
                let reason =
                    format!("{ttl:?} is too long; this store's longest is {:?}", self.ttl_max);
                Err(LockError::invalid("ttl", reason))
            }
        }
    }

    /// When at the latest the lock is free again after a grant of `ttl` whose holder died.
    pub fn expiry_latest(&self, ttl: Duration) -> Duration {
        let part = ttl.saturating_mul(u32::from(self.expiry_lag_percent)) / 100;
        ttl.saturating_add(part).saturating_add(self.expiry_lag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Invalid;

    const STORE: Capabilities = {
        let mut capabilities = Capabilities::new(Duration::from_secs(1));
        capabilities.ttl_step = Duration::from_secs(1);
        capabilities.expiry_lag_percent = 100;
        capabilities
    };

    #[test]
    fn ttls_are_rounded_up() {
        let ttl = |ms| STORE.ttl(Duration::from_millis(ms)).unwrap();
        assert_eq!(ttl(1_000), Duration::from_secs(1));
        assert_eq!(ttl(1_001), Duration::from_secs(2));
        assert_eq!(STORE.ttl(Duration::new(1, 1)).unwrap(), Duration::from_secs(2));
        assert_eq!(STORE.ttl(TTL_MAX).unwrap(), TTL_MAX);
    }

    #[test]
    fn a_ttl_that_was_rounded_up_is_not_refused_later() {
        let mut store = STORE;
        store.ttl_max = Duration::from_millis(2_500);
        for ms in (1_000..=3_000).step_by(100) {
            if let Ok(ttl) = store.ttl(Duration::from_millis(ms)) {
                assert!(ttl <= store.ttl_max, "{ttl:?}");
                assert_eq!(store.ttl(ttl).unwrap(), ttl);
            }
        }
    }

    #[test]
    fn ttls_out_of_range_are_refused() {
        for ttl in [
            Duration::ZERO,
            Duration::from_millis(999),
            TTL_MAX + Duration::new(0, 1),
            Duration::MAX,
        ] {
            assert!(
                matches!(STORE.ttl(ttl), Err(LockError::Invalid(Invalid { what: "ttl", .. }))),
                "{ttl:?}"
            );
        }
    }

    #[test]
    fn the_latest_expiry_counts_both_lags() {
        assert_eq!(STORE.expiry_latest(Duration::from_secs(10)), Duration::from_secs(20));
        assert_eq!(STORE.expiry_latest(Duration::MAX), Duration::MAX);
    }
}
