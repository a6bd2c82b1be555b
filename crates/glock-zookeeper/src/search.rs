//! `Search`: for how long one looks for what a request may make whose answer was lost.

use std::time::Duration;

use tokio::time::{self, Instant};

/// Looks for what a request may make whose answer was lost: again and again, as it may still be on
/// its way, until a look that comes so long after the first one finds nothing either.
pub(crate) struct Search {
    lasts: Duration,
    since: Option<Instant>,
    pause: Duration,
}

/// No network keeps a request much longer than that, unless it is broken.
const LASTS_MIN: Duration = Duration::from_secs(4);
/// The first and the longest pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Search {
    /// A search for a request that may `travel` so long, and for four seconds at least.
    pub(crate) fn new(travel: Duration) -> Self {
        Self { lasts: travel.max(LASTS_MIN), since: None, pause: PAUSE }
    }

    /// Nothing was there when it was asked for at `asked_at`; whether that was the last look. Only
    /// what was asked after that time would have met a request that arrived within it.
    pub(crate) fn found_nothing(&mut self, asked_at: Instant) -> bool {
        let since = *self.since.get_or_insert(asked_at);
        asked_at.saturating_duration_since(since) >= self.lasts
    }

    /// Sleeps until the next look.
    pub(crate) async fn pause(&mut self) {
        let mut next = Instant::now() + self.pause;
        if let Some(since) = self.since {
            let last = since + self.lasts;
            // The last one is not late, unless the servers were.
            next = if last > Instant::now() { next.min(last) } else { next };
        }
        time::sleep_until(next).await;
        self.pause = (self.pause * 4).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a search ends that finds nothing, and after how many looks.
    async fn search(travel: Duration) -> (Duration, u32) {
        let (began, mut search, mut looks) = (Instant::now(), Search::new(travel), 1);
        while !search.found_nothing(Instant::now()) {
            search.pause().await;
            looks += 1;
        }
        (began.elapsed(), looks)
    }

    #[tokio::test(start_paused = true)]
    async fn one_looks_for_as_long_as_a_call_may_take_and_sleeps_no_longer() {
        assert_eq!(search(Duration::from_millis(10)).await, (LASTS_MIN, 5));
        assert_eq!(search(Duration::from_secs(5)).await, (Duration::from_secs(5), 6));
        assert_eq!(search(Duration::from_mins(1)).await, (Duration::from_mins(1), 17));
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_servers_did_not_answer_is_no_look() {
        let (began, mut search) = (Instant::now(), Search::new(LASTS_MIN));
        while began.elapsed() < Duration::from_mins(1) {
            search.pause().await;
        }
        assert!(!search.found_nothing(Instant::now()));
        search.pause().await;
        assert!(search.found_nothing(Instant::now()));
    }
}
