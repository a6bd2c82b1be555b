//! `Requests`: how many requests are on their way at once, and which are sent again.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use glock_core::toolkit::{Backoff, CallDeadline};
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
    /// How long replies take, in microseconds: the mean, in which the last one counts a quarter.
    latency: AtomicU64,
}

/// How many requests one client has on their way at once. The HTTP client may have twice as many
/// connections: it opens one while it waits for another, and keeps both.
const SLOTS: usize = 64;
/// The shortest time that an acquire waits for its reply: an attempt that is given up costs an undo.
const ATTEMPT_MIN: Duration = Duration::from_millis(500);
/// The pauses after a request that the service had no room for.
const CONGESTED: Backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(1));

/// A reply, and when the request was sent that got it.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    pub(crate) of: T,
    pub(crate) sent_at: Instant,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self { slots: Semaphore::new(SLOTS), latency: AtomicU64::new(0) }
    }

    /// How long replies take.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_micros(self.latency.load(Relaxed))
    }

    /// Sends what `request` makes, and again while the service has no room for it.
    pub(crate) async fn send<T, F>(
        &self,
        until: CallDeadline,
        request: impl Fn() -> F + Send + Sync,
    ) -> Result<Reply<T>, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        let mut congested = CONGESTED;
        loop {
            let slot = self.slots.acquire().await;
            let sent_at = Instant::now();
            let result = request().await;
            drop(slot);
            let failure = match result {
                Ok(of) => {
                    self.note_latency(sent_at.elapsed());
                    return Ok(Reply { of, sent_at });
                }
                Err(failure) => failure,
            };
            let pause = congested.next_jittered();
            if failure.next == NextStep::GiveUp || pause >= until.attempt_max() {
                return Err(failure);
            }
            time::sleep(pause).await;
        }
    }

    /// Does what [`send`](Self::send) does, and waits for each reply as long as one attempt may: for a
    /// request that is not safe to repeat.
    pub(crate) async fn send_attempt<T, F>(
        &self,
        until: CallDeadline,
        request: impl Fn() -> F + Send + Sync,
    ) -> Result<Reply<T>, Failure>
    where
        F: Future<Output = Result<T, Failure>> + Send,
    {
        // One that its call has no more time for is carried on when that has ended.
        let attempt_max = until.attempt_max().max(ATTEMPT_MIN);
        let in_time = async || {
            let reply = time::timeout(attempt_max, request()).await;
            reply.unwrap_or_else(|_| Err(Failure::no_reply(attempt_max)))
        };
        self.send(until, in_time).await
    }

    fn note_latency(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Of two at once, one may be lost.
        let before = self.latency.load(Relaxed);
        self.latency.store(before - before / 4 + took / 4, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use glock_core::Fault;

    use super::*;

    const CALL: Duration = Duration::from_secs(5);

    /// Fails so often in that way; the outcome, and how many requests there were.
    async fn after(times: u32, next: NextStep) -> (Result<Reply<()>, Failure>, u32) {
        let sent = AtomicU32::new(0);
        let request = async || {
            if sent.fetch_add(1, SeqCst) < times {
                return Err(Failure::new(Fault::Unavailable, next, "x"));
            }
            Ok(())
        };
        let outcome = Requests::new().send(CallDeadline::after(CALL), request).await;
        (outcome, sent.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_the_service_had_no_room_for_is_sent_again() {
        let (outcome, sent) = after(3, NextStep::Repeat).await;
        assert!(outcome.is_ok());
        assert_eq!(sent, 4);
        let (outcome, sent) = after(3, NextStep::GiveUp).await;
        assert!(outcome.is_err());
        assert_eq!(sent, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_without_room_is_asked_with_growing_pauses_and_not_for_ever() {
        let began = Instant::now();
        let (outcome, sent) = after(u32::MAX, NextStep::Repeat).await;
        assert_eq!(outcome.unwrap_err().fault, Fault::Unavailable);
        assert!((5..=12).contains(&sent), "{sent} requests");
        assert!(began.elapsed() < CALL);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_an_attempt_and_not_the_call() {
        let requests = Requests::new();
        for (call, attempt) in [(CALL, CALL * 2 / 5), (ATTEMPT_MIN / 2, ATTEMPT_MIN)] {
            let began = Instant::now();
            let until = CallDeadline::after(call);
            let silent = || std::future::pending::<Result<(), Failure>>();
            let failure = requests.send_attempt(until, silent).await.unwrap_err();
            assert_eq!(failure.fault, Fault::Unknown);
            let took = began.elapsed();
            assert!(took >= attempt && took < attempt + Duration::from_millis(5), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_counts_from_when_its_own_request_was_sent() {
        let began = Instant::now();
        let (outcome, _) = after(1, NextStep::Repeat).await;
        assert!(outcome.unwrap().sent_at > began);
    }
}
