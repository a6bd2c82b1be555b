//! `LateRequestProbe`: how long to keep checking for the effect of a request whose reply was lost.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::backoff::Backoff;

/// How long to keep checking for the effect of a request whose reply was lost. The request may still
/// be in flight, so one look that finds nothing proves nothing: the last look comes `in_flight_max`
/// after the first that found nothing.
#[derive(Debug, Clone)]
pub struct LateRequestProbe {
    in_flight_max: Duration,
    absent_since: Option<Instant>,
    pauses: Backoff,
}

/// The first and the longest pause between two looks; each is four times as long as the one before.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const PAUSE_FACTOR: u32 = 4;

impl LateRequestProbe {
    /// A probe for a request that may be in flight for `in_flight_max`.
    pub const fn new(in_flight_max: Duration) -> Self {
        let pauses = Backoff::new(PAUSE, PAUSE_MAX).with_factor(PAUSE_FACTOR);
        Self { in_flight_max, absent_since: None, pauses }
    }

    /// Notes a look, sent at `sent_at`, that found nothing. Returns whether it was the last one. Only
    /// a look that was sent after `in_flight_max` sees a request that arrived within it.
    pub fn found_nothing(&mut self, sent_at: Instant) -> bool {
        let since = *self.absent_since.get_or_insert(sent_at);
        sent_at.saturating_duration_since(since) >= self.in_flight_max
    }

    /// When the next look is due.
    pub fn next_look(&self) -> Instant {
        let now = Instant::now();
        let last = self.absent_since.and_then(|since| since.checked_add(self.in_flight_max));
        let next = now + self.pauses.peek();
        // The last one is not late, unless the store was.
        last.filter(|last| *last > now).map_or(next, |last| next.min(last))
    }

    /// Sleeps until the next look is due.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped early, the same pause begins again the next time.
    pub async fn pause(&mut self) {
        time::sleep_until(self.next_look()).await;
        self.pauses.next_pause();
    }

    /// Counts a pause as taken, for a caller that sleeps until [`next_look`](Self::next_look) itself.
    pub fn paused(&mut self) {
        self.pauses.next_pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_FLIGHT_MAX: Duration = Duration::from_secs(4);

    #[tokio::test(start_paused = true)]
    async fn a_look_without_a_reply_is_no_look() {
        let (began, mut probe) = (Instant::now(), LateRequestProbe::new(IN_FLIGHT_MAX));
        while began.elapsed() < Duration::from_mins(1) {
            probe.pause().await;
        }
        assert!(!probe.found_nothing(Instant::now()));
        probe.pause().await;
        assert!(probe.found_nothing(Instant::now()));
    }

    /// When a probe that finds nothing ends, and after how many looks.
    async fn looks(in_flight_max: Duration) -> (Duration, u32) {
        let (began, mut probe, mut looks) =
            (Instant::now(), LateRequestProbe::new(in_flight_max), 1);
        while !probe.found_nothing(Instant::now()) {
            probe.pause().await;
            looks += 1;
        }
        (began.elapsed(), looks)
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_look_comes_when_no_request_can_be_in_flight_and_no_later() {
        for (seconds, count) in [(0, 1), (4, 5), (5, 6), (60, 17)] {
            let in_flight_max = Duration::from_secs(seconds);
            assert_eq!(looks(in_flight_max).await, (in_flight_max, count));
        }
    }
}
