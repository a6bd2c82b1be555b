//! `hedged`: sends a request again, elsewhere, when its reply is late.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{self, Instant};

use super::{backoff::Backoff, call_deadline::CallDeadline};
use crate::{Fault, LockError};

/// What [`hedged`] returns.
#[derive(Debug)]
pub struct Hedged<T> {
    /// The first reply.
    pub result: Result<T, LockError>,
    /// How many attempts began. After the first one, an earlier attempt may be what the reply shows: a
    /// release that finds nothing may have been carried out before.
    pub attempts: u32,
}

/// How many attempts may fail, if no other one is waiting for a reply.
const FAILURES_MAX: u32 = 3;
/// The pauses after attempts that failed.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));

/// Sends a request, and sends it again each time an attempt's time passes without a reply
/// ([`CallDeadline::attempt_max`]) or the store fails. Earlier attempts go on: the first reply counts. So
/// what is silent costs one attempt, and the reply of a slow store counts all the same.
///
/// For requests that are safe to repeat: renewals, releases, reads; never for an acquire. `attempt` gets
/// the number of attempts before; `silent` gets the number of one whose time has passed, and sees to it
/// that the next one goes over another connection, or to another member or host. Run it in a
/// [`Call`](super::Call), which bounds it in time: after the deadline it only waits for replies.
///
/// # Cancel safety
///
/// Drops all attempts.
pub async fn hedged<T, F>(
    until: CallDeadline,
    attempt: impl FnMut(u32) -> F,
    silent: impl FnMut(u32),
) -> Hedged<T>
where
    F: Future<Output = Result<T, LockError>>,
{
    hedged_with((FAILURES_MAX, PAUSES), until, attempt, silent).await
}

/// Does what [`hedged`] does. `failures_max` attempts may fail, with `pauses` after them.
pub(crate) async fn hedged_with<T, F>(
    (failures_max, mut pauses): (u32, Backoff),
    until: CallDeadline,
    mut attempt: impl FnMut(u32) -> F,
    mut silent: impl FnMut(u32),
) -> Hedged<T>
where
    F: Future<Output = Result<T, LockError>>,
{
    let (mut open, mut attempts, mut failures) = (Vec::new(), 0, 0);
    // Whether an attempt may have had its effect although its reply was lost.
    let mut ambiguous = false;
    let mut failed = None;
    // Which attempt is silent if its time passes, and when the next one begins.
    let mut newest = None;
    let mut next_at = Some(Instant::now());
    loop {
        if next_at.is_some_and(|at| at <= Instant::now()) {
            if let Some(late) = newest.take() {
                silent(late);
            }
            let attempt_max = until.attempt_max();
            next_at = if attempt_max.is_zero() && attempts > 0 {
                match failed.take().filter(|_| open.is_empty()) {
                    Some(err) => return Hedged { result: Err(err), attempts },
                    None => None,
                }
            } else {
                // In a box each: the drivers' futures are large.
                open.push((attempts, Box::pin(attempt(attempts))));
                newest = Some(attempts);
                attempts += 1;
                Instant::now().checked_add(attempt_max)
            };
        }
        let reply = poll_fn(|cx| poll_all(&mut open, cx));
        let (number, result) = match next_at {
            Some(at) => match time::timeout_at(at, reply).await {
                Ok(reply) => reply,
                Err(_) => continue,
            },
            None => reply.await,
        };
        let may_have_happened = ambiguous || !open.is_empty();
        let err = match result {
            Err(err) if err.fault().is_some() => err,
            result => return Hedged { result, attempts },
        };
        failures += 1;
        let is_final = err.fault() == Some(Fault::Rejected)
            || open.is_empty() && (failures >= failures_max || next_at.is_none());
        let err = if may_have_happened { unknown(err) } else { err };
        if is_final {
            return Hedged { result: Err(err), attempts };
        }
        ambiguous |= err.fault() == Some(Fault::Unknown);
        failed = Some(err);
        if newest == Some(number) {
            newest = None;
            next_at = next_at.and_then(|_| Instant::now().checked_add(pauses.next_pause()));
        }
    }
}

/// Polls all attempts, the first one first. Takes out the one that is ready.
fn poll_all<F: Future>(
    open: &mut Vec<(u32, Pin<Box<F>>)>,
    cx: &mut Context<'_>,
) -> Poll<(u32, F::Output)> {
    for at in 0..open.len() {
        if let Poll::Ready(output) = open[at].1.as_mut().poll(cx) {
            let (number, _) = open.remove(at);
            return Poll::Ready((number, output));
        }
    }
    Poll::Pending
}

/// The same failure, where an earlier attempt may have had its effect.
fn unknown(err: LockError) -> LockError {
    match err {
        LockError::Backend { backend, action, source, .. } => {
            LockError::Backend { backend, action, fault: Fault::Unknown, source }
        }
        err => err,
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::{Action, LockId, backend};

    const LIMIT: Duration = Duration::from_secs(5);

    /// How an attempt ends.
    #[derive(Clone, Copy)]
    enum End {
        Reply(u64),
        Fails(Fault),
        Silent,
        NotHeld,
    }
    use End::{Fails, NotHeld, Reply, Silent};

    async fn ends(end: End, number: u32) -> Result<u32, LockError> {
        match end {
            Reply(millis) => sleep(Duration::from_millis(millis)).await,
            Fails(fault) => {
                return Err(LockError::backend(backend::MEMORY, Action::Renew, fault, "scripted"));
            }
            Silent => pending().await,
            NotHeld => return Err(LockError::NotHeld { id: LockId::new("x")? }),
        }
        Ok(number)
    }

    /// Runs attempts that end as `script` says, and as its last one from then on. Also returns which
    /// ones were called silent, and how long it took.
    async fn run(script: &[End]) -> (Hedged<u32>, Vec<u32>, Duration) {
        let (began, mut silent) = (Instant::now(), Vec::new());
        let attempt = |number: u32| {
            let at = usize::try_from(number).unwrap().min(script.len() - 1);
            ends(script[at], number)
        };
        let hedged =
            hedged(CallDeadline::after(LIMIT), attempt, |number| silent.push(number)).await;
        (hedged, silent, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_silent_costs_one_attempt() {
        let (hedged, silent, took) = run(&[Silent, Reply(20)]).await;
        assert_eq!((hedged.result.unwrap(), hedged.attempts, silent), (1, 2, vec![0]));
        assert_eq!(took, LIMIT / 5 * 2 + Duration::from_millis(20));
    }

    #[tokio::test(start_paused = true)]
    async fn the_reply_of_a_slow_store_counts() {
        let (hedged, _, took) = run(&[Reply(4_900)]).await;
        assert_eq!(hedged.result.unwrap(), 0);
        assert_eq!(took, Duration::from_millis(4_900));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_tried_again_and_not_for_ever() {
        let (hedged, silent, _) = run(&[Fails(Fault::Unavailable), Reply(1)]).await;
        assert_eq!((hedged.result.unwrap(), silent), (1, vec![]));
        let (hedged, _, took) = run(&[Fails(Fault::Unavailable)]).await;
        assert_eq!(hedged.result.unwrap_err().fault(), Some(Fault::Unavailable));
        assert_eq!((hedged.attempts, took < LIMIT / 10), (FAILURES_MAX, true));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_certain_is_not_tried_again() {
        let (hedged, ..) = run(&[Fails(Fault::Rejected), Reply(1)]).await;
        assert_eq!(
            (hedged.result.unwrap_err().fault(), hedged.attempts),
            (Some(Fault::Rejected), 1)
        );
        let (hedged, ..) = run(&[NotHeld]).await;
        assert!(matches!(hedged.result, Err(LockError::NotHeld { .. })) && hedged.attempts == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_without_a_reply_may_have_had_its_effect() {
        let unknown = Fails(Fault::Unknown);
        let refused = [Fails(Fault::Unavailable), Fails(Fault::Rejected)];
        for script in refused.map(|last| [unknown, last]).iter().chain([&[Silent, refused[1]]]) {
            let (hedged, _, took) = run(script).await;
            assert_eq!(hedged.result.unwrap_err().fault(), Some(Fault::Unknown));
            assert!(took < LIMIT);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_out_of_reach_does_not_end_the_wait_for_an_earlier_reply() {
        let (hedged, silent, took) = run(&[Reply(4_000), Fails(Fault::Unavailable)]).await;
        assert_eq!((hedged.result.unwrap(), silent), (0, vec![0]));
        assert_eq!(took, Duration::from_secs(4));
        assert!((4..=12).contains(&hedged.attempts), "{}", hedged.attempts);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_right_before_the_deadline_ends_the_call() {
        let late = |number: u32| async move {
            sleep(LIMIT / 1000 * 999).await;
            ends(Fails(Fault::Unavailable), number).await
        };
        let until = CallDeadline::after(LIMIT);
        let hedged = timeout(LIMIT * 3, hedged(until, late, |_| {})).await.expect("an end");
        assert!(hedged.result.is_err());
    }

    #[tokio::test]
    async fn a_reply_at_once_takes_one_attempt() {
        let attempt = |number| ready(Ok(number));
        let hedged = hedged(CallDeadline::after(LIMIT), attempt, |_| {}).await;
        assert_eq!((hedged.result.unwrap(), hedged.attempts), (0, 1));
    }
}
