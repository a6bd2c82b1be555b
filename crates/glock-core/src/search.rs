//! `Search`: for how long one looks for what a request may make whose answer was lost.

use std::time::Duration;

use tokio::time::{self, Instant};

/// For backends: looks for what a request may make whose answer was lost. Again and again, as it may
/// still be on its way, until a look that comes so long after the first one finds nothing either.
#[derive(Debug, Clone)]
pub struct Search {
    lasts: Duration,
    since: Option<Instant>,
    pause: Duration,
}

/// The first and the longest pause between two looks; each is four times as long as the one before.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Search {
    /// A search for a request that may `travel` so long.
    pub const fn new(travel: Duration) -> Self {
        Self { lasts: travel, since: None, pause: PAUSE }
    }

    /// Nothing was there when it was asked for at `asked_at`; whether that was the last look. Only
    /// what was asked after that time would have met a request that arrived within it.
    pub fn found_nothing(&mut self, asked_at: Instant) -> bool {
        let since = *self.since.get_or_insert(asked_at);
        asked_at.saturating_duration_since(since) >= self.lasts
    }

    /// When the next look is.
    pub(crate) fn next(&self) -> Instant {
        let now = Instant::now();
        let last = self.since.and_then(|since| since.checked_add(self.lasts));
        let next = now + self.pause;
        // The last one is not late, unless the store was.
        last.filter(|last| *last > now).map_or(next, |last| next.min(last))
    }

    /// Sleeps until the next look.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped early, the pause begins anew the next time.
    pub async fn pause(&mut self) {
        time::sleep_until(self.next()).await;
        self.pause = (self.pause * 4).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAVEL: Duration = Duration::from_secs(4);

    #[tokio::test(start_paused = true)]
    async fn what_the_store_did_not_answer_is_no_look() {
        let (began, mut search) = (Instant::now(), Search::new(TRAVEL));
        while began.elapsed() < Duration::from_mins(1) {
            search.pause().await;
        }
        assert!(!search.found_nothing(Instant::now()));
        search.pause().await;
        assert!(search.found_nothing(Instant::now()));
    }
}
