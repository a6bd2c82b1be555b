//! `Threads`: which holds may have a lock too many, by a renewal of theirs.

use std::{collections::HashMap, time::Duration};

use glock_core::toolkit::Mutex;
use tokio::time::Instant;

/// Which holds may have a lock too many, and how many renewals of theirs are in flight.
///
/// A renewal locks the key once more and takes that back. One that got no reply may have done half of
/// it, or may do it later. So the next one checks more closely, and a release frees until nothing is left. So it
/// does where two renewals were in flight at the same time: all take back by the same reference, and a member
/// that has locked for both before either took back ignores the second.
#[derive(Debug, Default)]
pub(crate) struct Threads(Mutex<HashMap<i64, Entry>>);

#[derive(Debug)]
struct Entry {
    in_flight: u32,
    begun: u64,
    /// Two were in flight at the same time.
    overlapped: bool,
    /// Until when the hold may matter.
    until: Instant,
}

/// So many entries are kept without looking for old ones.
const SWEEP_AT: usize = 1_000;

impl Threads {
    /// Notes that a renewal for `ttl` is about to be sent. Returns how many are in flight, with this one,
    /// and which one it is.
    pub(crate) fn begin(&self, thread: i64, ttl: Duration) -> (u32, u64) {
        let (mut threads, now) = (self.0.lock(), Instant::now());
        if threads.len() >= SWEEP_AT {
            threads.retain(|_, entry| entry.until > now);
        }
        let until = now.checked_add(ttl).unwrap_or(now);
        let new = Entry { in_flight: 0, begun: 0, overlapped: false, until };
        let entry = threads.entry(thread).or_insert(new);
        entry.overlapped |= entry.in_flight > 0;
        entry.in_flight += 1;
        entry.begun += 1;
        entry.until = until.max(entry.until);
        (entry.in_flight, entry.begun)
    }

    /// Notes that the renewal `number` has all its replies. Returns whether another one has begun since.
    pub(crate) fn end(&self, thread: i64, number: u64) -> bool {
        let mut threads = self.0.lock();
        let Some(entry) = threads.get_mut(&thread) else { return false };
        let others = entry.begun != number;
        entry.in_flight -= 1;
        if entry.in_flight == 0 && !entry.overlapped {
            threads.remove(&thread);
        }
        others
    }

    /// Whether the hold may have a lock too many, now or later.
    pub(crate) fn is_in_doubt(&self, thread: i64) -> bool {
        self.0.lock().contains_key(&thread)
    }

    /// Forgets a hold that is over.
    pub(crate) fn forget(&self, thread: i64) {
        self.0.lock().remove(&thread);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn what_got_no_reply_stays_in_flight() {
        let threads = Threads::default();
        assert_eq!((threads.begin(1, TTL), threads.begin(2, TTL)), ((1, 1), (1, 1)));
        assert!(!threads.end(1, 1));
        assert!(!threads.is_in_doubt(1) && threads.is_in_doubt(2));
        assert_eq!(threads.begin(2, TTL), (2, 2));
        assert!(threads.end(2, 1), "another one has begun since");
        assert!(threads.is_in_doubt(2));
        threads.forget(2);
        assert!(!threads.end(2, 2));
        assert!(!threads.is_in_doubt(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_stays_in_doubt_once_two_renewals_have_overlapped() {
        let threads = Threads::default();
        assert_eq!((threads.begin(1, TTL), threads.begin(1, TTL)), ((1, 1), (2, 2)));
        assert!(threads.end(1, 1) && !threads.end(1, 2));
        assert!(threads.is_in_doubt(1));
        assert_eq!(threads.begin(1, TTL), (1, 3));
        assert!(!threads.end(1, 3) && threads.is_in_doubt(1));
        threads.forget(1);
        assert!(!threads.is_in_doubt(1));
    }

    #[tokio::test(start_paused = true)]
    async fn holds_that_are_long_over_are_forgotten() {
        let threads = Threads::default();
        for thread in 0..i64::try_from(SWEEP_AT).unwrap() {
            threads.begin(thread, TTL);
        }
        advance(TTL).await;
        threads.begin(-1, TTL);
        assert_eq!(threads.0.lock().len(), 1);
    }
}
