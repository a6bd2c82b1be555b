//! `Retry`: how long, how often and with which pauses to try again.

use std::time::Duration;

use crate::LockError;

/// How long, how often and with which pauses to try again while another owner holds the lock.
///
/// A waiter is woken by the store where the store can; the pause is the longest that it sleeps
/// without asking.
///
/// ```
/// use std::time::Duration;
/// use glock_core::Retry;
///
/// let patient = Retry::within(Duration::from_secs(5));
/// let go_style = Retry::times(3, Duration::from_millis(200));
/// # assert_eq!(go_style.retries_max, Some(3));
/// # assert_eq!(patient.retries_max, None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// The longest pause between two tries. Default: 5 minutes, because a store's wake-up or the
    /// end of the holder's lease comes first.
    pub pause_max: Duration,
    /// How many tries may follow the first. `None`: as many as the time allows.
    pub retries_max: Option<u32>,
    /// How long to wait in all. `Duration::MAX`: for ever.
    pub wait_max: Duration,
    /// By how much a pause is shortened at random, in percent, so that clients that were turned
    /// away together do not come back together. Default: 20.
    pub jitter_percent: u8,
}

const PAUSE_MAX: Duration = Duration::from_mins(5);
const JITTER_PERCENT: u8 = 20;

impl Retry {
    /// One try and no more.
    pub const NEVER: Self = Self {
        pause_max: PAUSE_MAX,
        retries_max: Some(0),
        wait_max: Duration::ZERO,
        jitter_percent: JITTER_PERCENT,
    };

    /// As many tries as it takes, for as long as it takes.
    pub const FOREVER: Self = Self { retries_max: None, wait_max: Duration::MAX, ..Self::NEVER };

    /// As many tries as fit into `wait_max`. The last one may take a call's time limit longer.
    pub const fn within(wait_max: Duration) -> Self {
        Self { wait_max, ..Self::FOREVER }
    }

    /// At most `retries_max` more tries, with a pause of at most `pause_max` before each. A count
    /// of tries and a place in a queue do not go together: such a caller does not queue.
    pub const fn times(retries_max: u32, pause_max: Duration) -> Self {
        Self { retries_max: Some(retries_max), pause_max, ..Self::FOREVER }
    }

    /// Sets [`pause_max`](Self::pause_max).
    #[must_use]
    pub const fn with_pause_max(mut self, pause_max: Duration) -> Self {
        self.pause_max = pause_max;
        self
    }

    /// Sets [`wait_max`](Self::wait_max).
    #[must_use]
    pub const fn with_wait_max(mut self, wait_max: Duration) -> Self {
        self.wait_max = wait_max;
        self
    }

    /// Sets [`jitter_percent`](Self::jitter_percent).
    #[must_use]
    pub const fn with_jitter_percent(mut self, jitter_percent: u8) -> Self {
        self.jitter_percent = jitter_percent;
        self
    }

    /// Checks that waiting this way can work.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a pause of zero, which would hammer the store, or a jitter of
    /// more than 100 %.
    pub fn check(&self) -> Result<(), LockError> {
        if self.pause_max.is_zero() {
            return Err(LockError::invalid("retry", "`pause_max` is zero; give at least 1 ms"));
        }
        if self.jitter_percent > 100 {
            return Err(LockError::invalid("retry", "`jitter_percent` is over 100"));
        }
        Ok(())
    }

    /// The next pause: `pause_max`, shortened at random by up to `jitter_percent`.
    pub fn pause(&self) -> Duration {
        // A day is as good as for ever, and no clock overflows on it.
        let pause = self.pause_max.min(Duration::from_hours(24));
        let pause = pause.saturating_sub(random_part(pause * u32::from(self.jitter_percent) / 100));
        // None at all would read as "no time left".
        pause.max(Duration::from_nanos(1))
    }
}

/// A random part of `of`, from nothing to all of it.
pub(crate) fn random_part(of: Duration) -> Duration {
    // Without random numbers the pauses are merely alike.
    let random = getrandom::u32().unwrap_or(0);
    of.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_shortened_by_the_jitter_and_no_more() {
        let retry = Retry::FOREVER.with_pause_max(Duration::from_secs(10));
        for _ in 0..1_000 {
            let pause = retry.pause();
            assert!((8..=10).contains(&pause.as_secs()), "{pause:?}");
        }
        assert_eq!(retry.with_jitter_percent(0).pause(), Duration::from_secs(10));
        assert!(Retry::FOREVER.with_pause_max(Duration::MAX).pause() > Duration::from_hours(1));
        let short = retry.with_pause_max(Duration::from_nanos(2)).with_jitter_percent(100);
        assert!((0..100).all(|_| !short.pause().is_zero()));
    }

    #[test]
    fn what_would_hammer_the_store_is_refused() {
        assert!(Retry::times(3, Duration::ZERO).check().is_err());
        assert!(Retry::FOREVER.with_jitter_percent(101).check().is_err());
        for good in [Retry::NEVER, Retry::FOREVER, Retry::within(Duration::ZERO)] {
            assert!(good.check().is_ok());
        }
    }
}
