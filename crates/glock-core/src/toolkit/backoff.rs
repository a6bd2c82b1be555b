//! `Backoff`: pauses that grow from one failure to the next.

use std::time::Duration;

use tokio::time;

use crate::contract::random_part;

/// Pauses that grow from one failure to the next, up to a longest one.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    factor: u32,
    next: Duration,
}

impl Backoff {
    /// Pauses for a store that fails: 50 ms, doubling up to 2 s.
    pub const STORE_FAILURE: Self = Self::new(Duration::from_millis(50), Duration::from_secs(2));

    /// Pauses that double from `first` to `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, factor: 2, next: first }
    }

    /// Makes each pause `factor` times as long as the one before.
    #[must_use]
    pub const fn with_factor(mut self, factor: u32) -> Self {
        self.factor = factor;
        self
    }

    /// The pause that comes next, without taking it.
    pub fn peek(&self) -> Duration {
        self.next.min(self.longest)
    }

    /// Takes the next pause.
    pub fn next_pause(&mut self) -> Duration {
        let pause = self.peek();
        self.next = pause.saturating_mul(self.factor).min(self.longest);
        pause
    }

    /// Takes the next pause, shortened at random by up to a quarter, so that clients that failed together
    /// do not come back together.
    pub fn next_jittered(&mut self) -> Duration {
        let pause = self.next_pause();
        pause.saturating_sub(random_part(pause / 4))
    }

    /// Begins again with the first pause.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// Sleeps for the next pause.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the pause counts as taken.
    pub async fn sleep(&mut self) {
        time::sleep(self.next_pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_shortens_a_pause_by_a_quarter_at_most() {
        let draw = || {
            let mut backoff = Backoff::STORE_FAILURE;
            backoff.next_jittered().as_micros()
        };
        let pauses: Vec<_> = (0..100).map(|_| draw()).collect();
        assert!(pauses.iter().all(|pause| (37_500..=50_000).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }

    #[test]
    fn no_pause_is_longer_than_the_longest() {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(backoff.peek(), Duration::from_secs(1));
        assert_eq!(backoff.next_pause(), Duration::from_secs(1));
    }

    #[test]
    fn pauses_grow_to_the_longest_and_begin_again() {
        let millis = Duration::from_millis;
        let mut backoff = Backoff::new(millis(50), millis(150));
        assert_eq!(
            [backoff.next_pause(), backoff.next_pause(), backoff.next_pause()],
            [50, 100, 150].map(millis)
        );
        assert_eq!(backoff.next_pause(), millis(150));
        backoff.reset();
        assert_eq!(backoff.peek(), millis(50));
        let mut steep = Backoff::new(millis(1), Duration::MAX).with_factor(4);
        assert_eq!(
            [steep.next_pause(), steep.next_pause(), steep.next_pause()],
            [1, 4, 16].map(millis)
        );
    }
}
