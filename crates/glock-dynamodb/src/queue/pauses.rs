//! When a waiter reads again.

use std::time::Duration;

use glock_core::Retry;

/// The shortest pause between two reads.
pub(crate) const POLL_MIN: Duration = Duration::from_millis(4);
/// The longest one, unless the lock has a shorter one.
pub(crate) const POLL_MAX: Duration = Duration::from_secs(1);
/// A pause is this part of how long the lock has been as it is: the longer it was held, the longer it will be.
const POLL_PART: u32 = 8;
/// A pause is at least so many times as long as a reply takes.
const POLL_LATENCIES: u32 = 2;
const POLL_JITTER_PERCENT: u8 = 40;

/// The pause between two reads of a waiter that has so many before it, where the lock has been as it is for that
/// long. The one behind it has twice the pause of the first, the third three times: so all of them together send
/// few requests more than the first alone, and each reads before it is its turn. Where many wait, replies take
/// longer, and so do the pauses: waiters alone do not overload the service.
pub(crate) fn pause(
    place: usize,
    unchanged: Duration,
    latency: Duration,
    longest: Duration,
) -> Duration {
    let first = (unchanged / POLL_PART).max(POLL_MIN).max(latency.saturating_mul(POLL_LATENCIES));
    let places = u32::try_from(place).unwrap_or(u32::MAX).saturating_add(1);
    jittered(first.saturating_mul(places).min(longest))
}

pub(crate) fn jittered(longest: Duration) -> Duration {
    Retry::FOREVER.with_pause_max(longest).with_jitter_percent(POLL_JITTER_PERCENT).pause()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_hold_and_the_place_and_are_bounded() {
        let (minute, millis) = (Duration::from_mins(1), Duration::from_millis);
        for (place, unchanged, latency, longest) in [
            (0, Duration::ZERO, millis(1), POLL_MIN),
            (0, Duration::ZERO, millis(50), millis(100)),
            (0, millis(800), millis(1), millis(100)),
            (2, millis(800), millis(1), millis(300)),
            (0, minute, millis(1), POLL_MAX),
            (0, minute, minute, POLL_MAX),
            (usize::MAX, Duration::MAX, Duration::MAX, POLL_MAX),
        ] {
            for _ in 0..100 {
                let pause = pause(place, unchanged, latency, POLL_MAX);
                assert!(pause <= longest && pause >= longest / 2, "{pause:?} after {unchanged:?}");
            }
        }
    }
}
