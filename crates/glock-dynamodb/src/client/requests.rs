//! `Requests`: how long an attempt may take, and when a request is sent again.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use glock_core::{LockConfig, toolkit::Backoff};
use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};

use crate::error::{Failure, NextStep};

/// Sends requests, so many at a time.
///
/// The SDK's own retries are off: it would send an acquire again whose reply was lost, and pauses for up
/// to 20 s.
#[derive(Debug)]
pub(crate) struct Requests {
    /// Each request that is on its way takes a connection.
    slots: Semaphore,
    call_timeout: Duration,
    /// How long replies take, in microseconds: the mean, in which the last one counts a quarter.
    latency: AtomicU64,
}

/// How many requests one client has on their way at once. The HTTP client may have twice as many
/// connections: it opens one while it waits for another, and keeps both.
const SLOTS: usize = 32;
/// An attempt may take this part of its call, so that others fit in: on another connection, because one
/// that was silent is closed.
const ATTEMPTS: u32 = 3;
/// But at least this much: a request may be slow. If its call has less, the attempt is the call's only
/// one, and goes on in the background when that has ended.
const ATTEMPT_MIN: Duration = Duration::from_millis(500);
/// The same for a renewal, several of which fit into the shortest TTL.
const RENEWAL_ATTEMPT_MIN: Duration = Duration::from_millis(100);
/// After so many quarters of the time limit no attempt begins.
const ATTEMPTS_QUARTERS: u32 = 3;
/// The pauses after a request that the service had no room for, and after one without a reply.
const CONGESTED: Backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1));
const BROKEN: Backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(200));

/// Whether a request may be sent again when it got no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It does nothing the second time.
    Always,
    /// A copy that arrives late could do harm.
    IfNotDone,
}

/// How long a call and one of its attempts may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    call: Duration,
    attempt: Duration,
}

/// The reply to a request, and how it came.
#[derive(Debug)]
pub(crate) struct Outcome<T> {
    pub(crate) reply: T,
    /// When the attempt was sent that got the reply.
    pub(crate) sent_at: Instant,
    /// Whether an earlier attempt got none, and so may have been carried out.
    pub(crate) after_lost_reply: bool,
}

impl Requests {
    pub(crate) fn new(config: &LockConfig) -> Self {
        let (slots, latency) = (Semaphore::new(SLOTS), AtomicU64::new(0));
        Self { slots, call_timeout: config.call_timeout, latency }
    }

    pub(crate) fn limits(&self) -> Limits {
        let call = self.call_timeout;
        let attempt = (call / ATTEMPTS).max(ATTEMPT_MIN);
        Limits { call, attempt: if attempt < call { attempt } else { carried_on(call) } }
    }

    /// How long replies take.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_micros(self.latency.load(Relaxed))
    }

    fn note_latency(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Two at once may lose one of them.
        let before = self.latency.load(Relaxed);
        self.latency.store(before - before / 4 + took / 4, Relaxed);
    }

    /// Sends what `request` makes until it gets a reply, the failure is final, or time is up.
    pub(crate) async fn send<T, F>(
        &self,
        limits: Limits,
        repeat: Repeat,
        request: impl Fn() -> F,
    ) -> Result<Outcome<T>, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let began = Instant::now();
        let (mut congested, mut broken) = (CONGESTED, BROKEN);
        let mut after_lost_reply = false;
        loop {
            let slot = self.slots.acquire().await;
            let sent_at = Instant::now();
            let result = match time::timeout(limits.attempt, request()).await {
                Ok(result) => result,
                Err(_) => Err(Failure::no_reply(limits.attempt)),
            };
            drop(slot);
            let failure = match result {
                Ok(reply) => {
                    self.note_latency(sent_at.elapsed());
                    return Ok(Outcome { reply, sent_at, after_lost_reply });
                }
                Err(failure) => failure,
            };
            let pause = match failure.next {
                NextStep::Repeat => Some(congested.next_jittered()),
                NextStep::Reconnect if repeat == Repeat::Always => Some(broken.next_jittered()),
                NextStep::Reconnect | NextStep::GiveUp => None,
            };
            let last = limits.call / 4 * ATTEMPTS_QUARTERS;
            match pause {
                Some(pause) if began.elapsed() + pause < last => {
                    after_lost_reply |= failure.next == NextStep::Reconnect;
                    time::sleep(pause).await;
                }
                _ if after_lost_reply => return Err(failure.after_lost_reply()),
                _ => return Err(failure),
            }
        }
    }
}

/// How long a request may take whose call has ended.
pub(crate) fn carried_on(call: Duration) -> Duration {
    call * 2
}

impl Limits {
    /// For the renewal of a lease that has `remaining` left: several attempts fit into that too.
    pub(crate) fn within(self, remaining: Duration) -> Self {
        // A lease that came as text has none left and may be renewed all the same.
        if remaining.is_zero() {
            return self;
        }
        let attempt = (remaining / ATTEMPTS).max(RENEWAL_ATTEMPT_MIN);
        Self { attempt: self.attempt.min(attempt), ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use glock_core::Fault;

    use super::*;

    const CALL: Duration = Duration::from_secs(6);

    fn requests() -> Requests {
        Requests::new(&LockConfig::default().with_call_timeout(CALL))
    }

    /// Fails so often with a failure of that kind; the outcome, and how many requests there were.
    async fn after(
        times: u32,
        next: NextStep,
        repeat: Repeat,
    ) -> (Result<Outcome<()>, Failure>, u32) {
        let (requests, sent) = (requests(), AtomicU32::new(0));
        let fault = if next == NextStep::Reconnect { Fault::Unknown } else { Fault::Unavailable };
        let outcome = requests
            .send(requests.limits(), repeat, async || {
                if sent.fetch_add(1, SeqCst) < times {
                    return Err(Failure::new(fault, next, "x"));
                }
                Ok(())
            })
            .await;
        (outcome, sent.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_did_nothing_or_may_be_done_twice_is_sent_again() {
        let (outcome, sent) = after(3, NextStep::Repeat, Repeat::IfNotDone).await;
        assert!(!outcome.unwrap().after_lost_reply);
        assert_eq!(sent, 4);
        let (outcome, sent) = after(3, NextStep::Reconnect, Repeat::Always).await;
        assert!(outcome.unwrap().after_lost_reply);
        assert_eq!(sent, 4);
        for (next, repeat) in
            [(NextStep::Reconnect, Repeat::IfNotDone), (NextStep::GiveUp, Repeat::Always)]
        {
            let (outcome, sent) = after(3, next, repeat).await;
            assert!(outcome.is_err());
            assert_eq!(sent, 1, "{next:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_without_room_is_asked_with_growing_pauses_and_not_for_ever() {
        let began = Instant::now();
        let (outcome, sent) = after(u32::MAX, NextStep::Repeat, Repeat::IfNotDone).await;
        assert_eq!(outcome.unwrap_err().fault, Fault::Unavailable);
        assert!((5..=12).contains(&sent), "{sent} requests");
        assert!(began.elapsed() <= CALL * 3 / 4);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_an_attempt_and_not_the_call() {
        let (requests, sent) = (requests(), AtomicU32::new(0));
        let limits = requests.limits().within(Duration::from_millis(900));
        let began = Instant::now();
        let outcome = requests
            .send(limits, Repeat::Always, async || {
                if sent.fetch_add(1, SeqCst) == 0 {
                    time::sleep(CALL * 10).await;
                }
                Ok(())
            })
            .await
            .unwrap();
        assert!(outcome.after_lost_reply);
        assert!(began.elapsed() < Duration::from_millis(450), "{:?}", began.elapsed());
        assert!(outcome.sent_at > began + Duration::from_millis(300), "counts from the first");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_reply_outweighs_the_last_failure() {
        let (requests, sent) = (requests(), AtomicU32::new(0));
        let failure = requests
            .send(requests.limits(), Repeat::Always, async || {
                let first = sent.fetch_add(1, SeqCst) == 0;
                let fault = if first { Fault::Unknown } else { Fault::Unavailable };
                let next = if first { NextStep::Reconnect } else { NextStep::GiveUp };
                Err::<(), _>(Failure::new(fault, next, "x"))
            })
            .await
            .unwrap_err();
        assert_eq!(failure.fault, Fault::Unknown);
    }
}
