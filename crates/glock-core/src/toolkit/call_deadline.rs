//! `CallDeadline`: until when a call lasts, and how long each of its attempts waits for a reply.

use std::time::Duration;

use tokio::time::{self, Instant};

use crate::{Lease, contract::loss_lead};

/// Until when a call lasts, and how long each of its attempts waits for a reply.
///
/// A connection that is silent is no better than one that is gone. So no attempt may use up its call:
/// it waits for two fifths of what is left, and the next one goes over another connection, or to another
/// member or host. For a renewal ([`for_lease`](Self::for_lease)) what is left is what the lease has
/// left, so that at least two attempts fit into that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallDeadline {
    call: Instant,
    /// After this no attempt begins. Never after `call`.
    attempts: Instant,
    /// The rest is not divided into attempts that are shorter.
    attempt_min: Duration,
}

/// No reply came in the time that one attempt has. What the request was sent over is silent: replace it
/// before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no reply within {0:?}")]
pub struct NoReply(pub Duration);

/// The part of what is left that one attempt may take.
const ATTEMPT_PART: (u32, u32) = (2, 5);
/// The shortest attempt, as a part of what there was in the beginning: five attempts in all.
const ATTEMPT_MIN_PART: u32 = 8;

impl CallDeadline {
    /// A call that may take `limit` from now.
    pub fn after(limit: Duration) -> Self {
        let now = Instant::now();
        let call = now.checked_add(limit).unwrap_or(now);
        Self { call, attempts: call, attempt_min: limit / ATTEMPT_MIN_PART }
    }

    /// The same call, as a renewal of `lease`: its attempts share what the lease has left before its loss
    /// is reported. A lease that counts as expired, as one made from text does, has no say.
    #[must_use]
    pub fn for_lease(self, lease: &Lease) -> Self {
        let lease = Self::of_lease(lease);
        if lease.left().is_zero() || lease.attempts > self.attempts {
            return self;
        }
        Self { call: self.call, ..lease }
    }

    /// The same call, as a renewal of these leases by one request: what the first of them to end has left counts. One
    /// that counts as expired has no say.
    #[must_use]
    pub(crate) fn for_leases<'a>(self, leases: impl IntoIterator<Item = &'a Lease>) -> Self {
        let live = leases.into_iter().filter(|lease| !lease.is_expired());
        let first = live.min_by_key(|lease| lease.deadline());
        first.map_or(self, |first| self.for_lease(first))
    }

    /// A renewal that lasts until the loss of the lease is reported.
    pub(crate) fn of_lease(lease: &Lease) -> Self {
        let deadline = lease.deadline();
        let reported = deadline.checked_sub(loss_lead(lease.ttl())).unwrap_or(deadline);
        Self::after(reported.saturating_duration_since(Instant::now()))
    }

    /// What is left of the call.
    pub fn left(self) -> Duration {
        self.call.saturating_duration_since(Instant::now())
    }

    /// How long an attempt that begins now waits for its reply before another one begins. Zero: no other
    /// attempt begins.
    pub fn attempt_max(self) -> Duration {
        let left = self.attempts.saturating_duration_since(Instant::now());
        let (part, of) = ATTEMPT_PART;
        (left / of * part).max(self.attempt_min.min(left))
    }

    /// Waits for a reply as long as one attempt may.
    ///
    /// # Errors
    ///
    /// [`NoReply`] once that time is up. The request may still take effect.
    ///
    /// # Cancel safety
    ///
    /// Drops `reply` when the time is up, and when it is dropped itself.
    pub async fn reply<T>(self, reply: impl Future<Output = T>) -> Result<T, NoReply> {
        let attempt_max = self.attempt_max();
        time::timeout(attempt_max, reply).await.map_err(|_| NoReply(attempt_max))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;
    use crate::{FencingToken, LockId, OwnerToken};

    const LIMIT: Duration = Duration::from_secs(5);

    fn lease(ttl: Duration) -> Lease {
        let (id, owner) = (LockId::new("x").unwrap(), OwnerToken::random().unwrap());
        Lease::granted(id, owner, FencingToken::new(1), Instant::now(), ttl)
    }

    /// How long each attempt may take, if none gets a reply.
    async fn attempts(until: CallDeadline) -> Vec<Duration> {
        let mut attempts = Vec::new();
        while !until.attempt_max().is_zero() {
            let began = Instant::now();
            assert!(until.reply(std::future::pending::<()>()).await.is_err());
            attempts.push(began.elapsed());
        }
        attempts
    }

    #[tokio::test(start_paused = true)]
    async fn no_attempt_takes_its_whole_call() {
        for limit in [LIMIT, LIMIT * 100, LIMIT / 50] {
            let began = Instant::now();
            let attempts = attempts(CallDeadline::after(limit)).await;
            assert!(attempts[0] + attempts[1] <= limit * 7 / 10, "{attempts:?}");
            assert!(attempts.len() == 5, "{attempts:?}");
            let took = began.elapsed();
            assert!(took >= limit && took <= limit + Duration::from_millis(5), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn two_attempts_of_a_renewal_fit_into_what_the_lease_has_left() {
        for ttl in [100, 1_000, 3_000, 6_000, 60_000].map(Duration::from_millis) {
            let lease = lease(ttl);
            sleep(ttl / 3).await;
            let left = lease.remaining().saturating_sub(loss_lead(ttl));
            let attempts = attempts(CallDeadline::after(LIMIT).for_lease(&lease)).await;
            assert!(attempts[0] + attempts[1] <= left, "{ttl:?}: {attempts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_over_does_not_shorten_its_call() {
        let lease = lease(LIMIT);
        advance(LIMIT).await;
        let until = CallDeadline::after(LIMIT).for_lease(&lease);
        assert_eq!((until.left(), until.attempt_max()), (LIMIT, LIMIT / 5 * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_in_time_is_passed_on() {
        let until = CallDeadline::after(LIMIT);
        let reply = async {
            sleep(LIMIT / 3).await;
            7
        };
        assert_eq!(until.reply(reply).await, Ok(7));
    }
}
