//! `SessionLiveness`: how long a session is known to live on the servers.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use glock_core::toolkit::SessionDeadline;
use tokio::time::Instant;

/// How long a session is known to live on the servers, worked out from writes that they confirmed.
///
/// The leader ends a session that it has not heard of for the time-out. What it has heard lags
/// behind: a follower passes on which sessions were active with the leader's heartbeat, every half
/// tick. Reads and pings prove nothing, because a follower that is cut off answers them for a
/// while. A *write* that was confirmed proves that the follower and the leader were in touch, and
/// so that the leader had heard of what the session did half a tick before it. So the session lives
/// at least one time-out from the newest of these:
///
/// - its creation, which is a write at the leader;
/// - a confirmed write that was sent at least half a tick before another one. A time-out is at
///   least two ticks, so a quarter of it is enough;
/// - the driver's own ping before the last write. Those come every fifth of the time-out, which
///   leaves half of it from the write on, and a margin.
///
/// All this takes a leader that is punctual. One that stood still may confirm what it had received
/// before it sees which sessions are over; so what was on its way when a late answer came proves
/// nothing, nor does anything before.
pub(crate) struct SessionLiveness {
    timeout: Duration,
    session_deadline: SessionDeadline,
    writes: Mutex<Writes>,
}

struct Writes {
    /// When confirmed writes were sent, in order; the first is the newest that surely arrived.
    sent: VecDeque<Instant>,
    /// When the last write was sent, confirmed or not.
    asked: Instant,
    /// When the last answer came that had taken too long.
    stalled: Option<Instant>,
}

/// Half a tick, as a part of the shortest time-out.
const HALF_TICK: u32 = 4;
/// Writes closer together than this part of the time-out count as one.
const GRAIN: u32 = 32;
/// What two clocks may differ by, as a part of the time-out.
const MARGIN: u32 = 100;
/// An answer that takes longer than this part of the time-out is late.
const LATE: u32 = 8;
/// A silent session is asked for a sign of life after this part of the time-out.
const BEAT: u32 = 8;

impl SessionLiveness {
    /// Of a session that was asked for at `asked_at` and granted `timeout`.
    pub(crate) fn new(asked_at: Instant, timeout: Duration) -> Self {
        let session_deadline = SessionDeadline::new(asked_at);
        let liveness = Self {
            timeout,
            session_deadline,
            writes: Mutex::new(Writes { sent: [asked_at].into(), asked: asked_at, stalled: None }),
        };
        liveness.prove(Some(asked_at), asked_at);
        liveness
    }

    pub(crate) fn session_deadline(&self) -> &SessionDeadline {
        &self.session_deadline
    }

    /// How long after a write the next one is due while a lock is held.
    pub(crate) fn interval(&self) -> Duration {
        self.timeout / BEAT
    }

    /// A write is about to be sent: the time from which it counts.
    pub(crate) fn ask(&self) -> Instant {
        let now = Instant::now();
        self.writes().asked = now;
        now
    }

    /// The servers confirmed a write that was sent at `sent_at`.
    pub(crate) fn beat(&self, sent_at: Instant) {
        let surely = {
            let mut writes = self.writes();
            let now = Instant::now();
            if now.saturating_duration_since(sent_at) > self.timeout / LATE {
                writes.stalled = Some(now);
                writes.sent.clear();
            }
            if writes.stalled.is_some_and(|stalled| sent_at <= stalled) {
                return;
            }
            let heard_of = sent_at.checked_sub(self.timeout / HALF_TICK);
            while writes.sent.get(1).is_some_and(|next| heard_of.is_some_and(|by| *next <= by)) {
                writes.sent.pop_front();
            }
            let grain = self.timeout / GRAIN;
            if writes.sent.back().is_none_or(|last| *last + grain <= sent_at) {
                writes.sent.push_back(sent_at);
            }
            writes.sent.front().copied().filter(|first| heard_of.is_some_and(|by| *first <= by))
        };
        self.prove(surely, sent_at);
    }

    /// When the last write was sent. One that is lost is sent again, which counts anew.
    pub(crate) fn last(&self) -> Instant {
        self.writes().asked
    }

    fn writes(&self) -> MutexGuard<'_, Writes> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prove(&self, surely: Option<Instant>, sent_at: Instant) {
        let half = sent_at + self.timeout / 2;
        let until = surely.map_or(half, |surely| half.max(surely + self.timeout));
        self.session_deadline.extend(until.checked_sub(self.timeout / MARGIN).unwrap_or(until));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(8);

    fn left(liveness: &SessionLiveness) -> f64 {
        liveness
            .session_deadline()
            .deadline()
            .saturating_duration_since(Instant::now())
            .as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_session_lives_one_time_out() {
        advance(TIMEOUT).await;
        let liveness = SessionLiveness::new(Instant::now(), TIMEOUT);
        assert!((7.9..8.0).contains(&left(&liveness)), "{}", left(&liveness));
    }

    #[tokio::test(start_paused = true)]
    async fn one_write_after_a_silence_proves_half_a_time_out() {
        let liveness = SessionLiveness::new(Instant::now(), TIMEOUT);
        advance(TIMEOUT * 5).await;
        liveness.beat(Instant::now());
        assert!((3.9..4.0).contains(&left(&liveness)), "{}", left(&liveness));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_and_what_was_on_its_way_with_it_prove_nothing() {
        let liveness = SessionLiveness::new(Instant::now(), TIMEOUT);
        let late = Instant::now();
        advance(TIMEOUT * 3 / 4).await;
        let with_it = Instant::now();
        advance(TIMEOUT / 16).await;
        liveness.beat(late);
        liveness.beat(with_it);
        let left_at_last = left(&liveness);
        assert!((1.4..1.5).contains(&left_at_last), "{left_at_last}");
        advance(TIMEOUT / 16).await;
        liveness.beat(Instant::now());
        assert!((3.9..4.0).contains(&left(&liveness)), "{}", left(&liveness));
    }

    #[tokio::test(start_paused = true)]
    async fn steady_writes_prove_more_and_never_more_than_a_write_a_quarter_ago() {
        let liveness = SessionLiveness::new(Instant::now(), TIMEOUT);
        advance(TIMEOUT * 5).await;
        for _ in 0..500 {
            advance(Duration::from_millis(100)).await;
            liveness.beat(Instant::now());
        }
        assert!((5.6..=5.93).contains(&left(&liveness)), "{}", left(&liveness));
        assert!(liveness.writes.lock().unwrap().sent.len() < 16);
        for _ in 0..20 {
            advance(liveness.interval()).await;
            liveness.beat(Instant::now());
        }
        assert!((4.9..=5.93).contains(&left(&liveness)), "{}", left(&liveness));
    }
}
