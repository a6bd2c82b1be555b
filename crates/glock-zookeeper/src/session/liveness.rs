//! `SessionLiveness`: how long a session is known to live on the servers.

use std::{collections::VecDeque, time::Duration};

use glock_core::toolkit::{Mutex, SessionDeadline};
use tokio::time::Instant;

/// How long a session is known to live on the servers, derived from writes that they confirmed.
///
/// The leader ends a session from which it has received nothing for the session's time-out. What it
/// knows lags behind: a follower reports its active sessions in the reply to the leader's ping, every
/// half tick. Reads and pings prove nothing, because a follower that is cut off answers them for a
/// while. A confirmed *write* proves that follower and leader were connected, and so that the leader
/// knew of what the session did half a tick before the write. So the session lives at least one
/// time-out from the newest of these:
///
/// - its creation, which is a write at the leader;
/// - a confirmed write that was sent at least half a tick before another one. A time-out is at
///   least two ticks, so a quarter of the time-out is enough;
/// - the driver's own ping before the last write. Pings come every fifth of the time-out, which
///   leaves half of the time-out from the write on, and a margin; or less, where the servers grant a
///   shorter time-out than the pings were planned for.
///
/// All this takes a punctual leader. A leader that stood still may confirm what it had received
/// before it checks which sessions are over. So a late reply proves nothing, nor does any write that
/// was sent before it arrived.
pub(crate) struct SessionLiveness {
    timeout: Duration,
    /// How long the session lives at least after a confirmed write.
    after_write: Duration,
    deadline: SessionDeadline,
    writes: Mutex<Writes>,
}

struct Writes {
    /// When confirmed writes were sent, in order; the leader surely knows of the first.
    confirmed: VecDeque<Instant>,
    /// When the last write was sent, confirmed or not.
    last_sent: Instant,
    /// When the last late reply arrived.
    stalled: Option<Instant>,
}

/// Half a tick, as a part of the shortest time-out.
const HALF_TICK: u32 = 4;
/// Writes closer together than this part of the time-out count as one.
const GRAIN: u32 = 32;
/// What a ping may be late by, as a part of the time-out.
const PING_MARGIN: u32 = 20;
/// What two clocks may differ by, as a part of the time-out.
const MARGIN: u32 = 100;
/// A reply that takes longer than this part of the time-out is late.
const LATE: u32 = 8;
/// While a lock is held, a heartbeat follows the last write after this part of the time-out.
const HEARTBEAT: u32 = 8;

impl SessionLiveness {
    /// The liveness of a session that was requested at `sent_at` and granted `timeout`, where the
    /// driver's connection time-out is `silence_max`.
    pub(crate) fn new(sent_at: Instant, timeout: Duration, silence_max: Duration) -> Self {
        let writes = Writes { confirmed: [sent_at].into(), last_sent: sent_at, stalled: None };
        let (deadline, writes) = (SessionDeadline::new(sent_at), Mutex::new(writes));
        let after_write = after_write(timeout, silence_max);
        let liveness = Self { timeout, after_write, deadline, writes };
        liveness.extend(Some(sent_at), sent_at);
        liveness
    }

    pub(crate) fn deadline(&self) -> &SessionDeadline {
        &self.deadline
    }

    pub(crate) fn heartbeat_interval(&self) -> Duration {
        self.timeout / HEARTBEAT
    }

    /// Notes that a write is about to be sent. Returns the time from which it counts.
    pub(crate) fn sending(&self) -> Instant {
        let now = Instant::now();
        self.writes.lock().last_sent = now;
        now
    }

    /// When the last write was sent.
    pub(crate) fn last_sent(&self) -> Instant {
        self.writes.lock().last_sent
    }

    /// Notes that the servers have confirmed a write that was sent at `sent_at`.
    pub(crate) fn confirmed(&self, sent_at: Instant) {
        let known = {
            let (mut writes, now) = (self.writes.lock(), Instant::now());
            if now.saturating_duration_since(sent_at) > self.timeout / LATE {
                writes.stalled = Some(now);
                writes.confirmed.clear();
            }
            if writes.stalled.is_some_and(|stalled| sent_at <= stalled) {
                return;
            }
            let half_tick_ago = sent_at.checked_sub(self.timeout / HALF_TICK);
            let is_known = |at: &Instant| half_tick_ago.is_some_and(|by| *at <= by);
            while writes.confirmed.get(1).is_some_and(is_known) {
                writes.confirmed.pop_front();
            }
            let grain = self.timeout / GRAIN;
            if writes.confirmed.back().is_none_or(|last| *last + grain <= sent_at) {
                writes.confirmed.push_back(sent_at);
            }
            writes.confirmed.front().copied().filter(is_known)
        };
        self.extend(known, sent_at);
    }

    /// The leader knew of a write sent at `known`, and has confirmed one sent at `sent_at`.
    fn extend(&self, known: Option<Instant>, sent_at: Instant) {
        let pinged = sent_at + self.after_write;
        let until = known.map_or(pinged, |known| pinged.max(known + self.timeout));
        self.deadline.extend(until.checked_sub(self.timeout / MARGIN).unwrap_or(until));
    }
}

/// How long a session lives at least after a confirmed write, by the driver's ping before.
fn after_write(timeout: Duration, silence_max: Duration) -> Duration {
    // The driver's ticks are a part of its connection time-out, if that suits the session. It sends a
    // ping at the first tick that comes three ticks after its last request.
    let tick = if silence_max > timeout * 3 / 5 { timeout / 20 } else { silence_max / 8 };
    let (half_tick, margin) = (timeout / HALF_TICK, timeout / PING_MARGIN);
    timeout.saturating_sub(half_tick + tick * 4 + margin).min(timeout / 2)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(8);

    fn liveness() -> SessionLiveness {
        SessionLiveness::new(Instant::now(), TIMEOUT, TIMEOUT * 2 / 5)
    }

    fn left(liveness: &SessionLiveness) -> f64 {
        liveness.deadline().deadline().saturating_duration_since(Instant::now()).as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_session_lives_one_time_out() {
        advance(TIMEOUT).await;
        let liveness = liveness();
        assert!((7.9..8.0).contains(&left(&liveness)), "{}", left(&liveness));
    }

    #[tokio::test(start_paused = true)]
    async fn one_write_after_a_silence_proves_half_a_time_out() {
        let liveness = liveness();
        advance(TIMEOUT * 5).await;
        liveness.confirmed(Instant::now());
        assert!((3.9..4.0).contains(&left(&liveness)), "{}", left(&liveness));
    }

    #[test]
    fn rare_pings_prove_less() {
        // As the driver's pings come: at a tick, three ticks after the last request or one later.
        for (silence_max, part) in [(1, 50), (40, 50), (50, 45), (60, 40), (61, 50), (100, 50)] {
            let proven = after_write(TIMEOUT, TIMEOUT * silence_max / 100);
            assert_eq!(proven, TIMEOUT * part / 100, "{silence_max}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_reply_and_what_was_in_flight_with_it_prove_nothing() {
        let liveness = liveness();
        let late = Instant::now();
        advance(TIMEOUT * 3 / 4).await;
        let with_it = Instant::now();
        advance(TIMEOUT / 16).await;
        liveness.confirmed(late);
        liveness.confirmed(with_it);
        let left_at_last = left(&liveness);
        assert!((1.4..1.5).contains(&left_at_last), "{left_at_last}");
        advance(TIMEOUT / 16).await;
        liveness.confirmed(Instant::now());
        assert!((3.9..4.0).contains(&left(&liveness)), "{}", left(&liveness));
    }

    #[tokio::test(start_paused = true)]
    async fn steady_writes_prove_more_but_never_more_than_a_write_a_quarter_ago() {
        let liveness = liveness();
        advance(TIMEOUT * 5).await;
        for _ in 0..500 {
            advance(Duration::from_millis(100)).await;
            liveness.confirmed(Instant::now());
        }
        assert!((5.6..=5.93).contains(&left(&liveness)), "{}", left(&liveness));
        assert!(liveness.writes.lock().confirmed.len() < 16);
        for _ in 0..20 {
            advance(liveness.heartbeat_interval()).await;
            liveness.confirmed(Instant::now());
        }
        assert!((4.9..=5.93).contains(&left(&liveness)), "{}", left(&liveness));
    }
}
