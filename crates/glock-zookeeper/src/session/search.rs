//! `search`: for how long one looks for what a request may make whose answer was lost.

use std::time::Duration;

use glock_core::toolkit::LateRequestProbe;

/// No network keeps a request much longer than that, unless it is broken.
const LASTS_MIN: Duration = Duration::from_secs(4);

/// A search for a request that may `travel` so long, and for four seconds at least.
pub(crate) fn search(in_flight_max: Duration) -> LateRequestProbe {
    LateRequestProbe::new(in_flight_max.max(LASTS_MIN))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// When a search ends that finds nothing, and after how many looks.
    async fn looks(in_flight_max: Duration) -> (Duration, u32) {
        let (began, mut search, mut looks) = (Instant::now(), search(in_flight_max), 1);
        while !search.found_nothing(Instant::now()) {
            search.pause().await;
            looks += 1;
        }
        (began.elapsed(), looks)
    }

    #[tokio::test(start_paused = true)]
    async fn one_looks_for_as_long_as_a_call_may_take_and_sleeps_no_longer() {
        assert_eq!(looks(Duration::from_millis(10)).await, (LASTS_MIN, 5));
        assert_eq!(looks(Duration::from_secs(5)).await, (Duration::from_secs(5), 6));
        assert_eq!(looks(Duration::from_mins(1)).await, (Duration::from_mins(1), 17));
    }
}
