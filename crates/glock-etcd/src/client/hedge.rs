//! `hedged`: asks another member as well when the first is late, for requests that must not wait.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use glock_core::{Action, Fault, LockError};
use tokio::time::{Instant, sleep, timeout};

use crate::error::{is_lease_gone, is_worth_repeating, silent};

/// How often one thing is asked.
const ATTEMPTS_MAX: u32 = 12;
/// How often it may fail at once: 310 ms in all.
const FAILURES_MAX: u32 = 6;
/// After a failure; each later one is twice as long.
const PAUSE: Duration = Duration::from_millis(10);

/// Asks again each time there was no answer for `late`, and goes on listening for the earlier ones:
/// the first answer counts, so that a member which stands still costs no more than `late`, and one
/// that is slow is heard. For requests that are safe to repeat. Also says how often it asked.
pub(crate) async fn hedged<T, F>(
    action: Action,
    (late, limit): (Duration, Duration),
    ask: impl Fn() -> F + Send + Sync,
) -> (Result<T, LockError>, u32)
where
    T: Send,
    F: Future<Output = Result<T, LockError>> + Send,
{
    let until = Instant::now() + limit;
    let (mut open, mut asked, mut failed) = (Vec::new(), 0, 0);
    let mut doubt = None;
    loop {
        if asked < ATTEMPTS_MAX {
            // In a box each: the driver's futures are large, and each waiter has some.
            open.push(Box::pin(ask()));
            asked += 1;
        }
        let left = until.saturating_duration_since(Instant::now());
        match timeout(late.min(left), poll_fn(|cx| poll_all(&mut open, cx))).await {
            Ok(Ok(answer)) => return (Ok(answer), asked),
            Ok(Err(err)) => {
                failed += 1;
                // What could not be sent the next time may have come to pass the first time.
                let err = match doubt.take() {
                    Some(earlier)
                        if err.fault() != Some(Fault::Unknown) && !is_lease_gone(&err) =>
                    {
                        earlier
                    }
                    _ => err,
                };
                let over = failed >= FAILURES_MAX || asked >= ATTEMPTS_MAX;
                if !is_worth_repeating(&err) || over && open.is_empty() {
                    return (Err(err), asked);
                }
                doubt = Some(err).filter(|err| err.fault() == Some(Fault::Unknown));
                sleep(PAUSE * 2_u32.pow(failed.min(FAILURES_MAX) - 1)).await;
            }
            Err(_) if late < left => {}
            Err(_) => return (Err(silent(action)), asked),
        }
    }
}

fn poll_all<F: Future>(open: &mut Vec<Pin<Box<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    for at in 0..open.len() {
        if let Poll::Ready(answer) = open[at].as_mut().poll(cx) {
            drop(open.swap_remove(at));
            return Poll::Ready(answer);
        }
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::{
            Arc,
            atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
        },
    };

    use etcd_client::ConnectOptions;
    use glock_core::{LockConfig, backend};

    use super::*;
    use crate::{client::rpc::Store, client::source::Source};

    const TIMES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

    /// What each attempt does, in turn; the last goes on for ever.
    async fn asked(answers: &[Option<u64>]) -> (Result<u64, LockError>, u32, Duration) {
        let (asked, since) = (AtomicUsize::new(0), Instant::now());
        let (answer, count) = hedged(Action::Renew, TIMES, || {
            let at = asked.fetch_add(1, Relaxed);
            let after = answers.get(at).copied().flatten();
            async move {
                match after {
                    Some(millis) => sleep(Duration::from_millis(millis)).await,
                    None => pending().await,
                }
                Ok(after.unwrap_or_default())
            }
        })
        .await;
        (answer, count, since.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_stands_still_costs_one_delay() {
        let (answer, asked, took) = asked(&[None, Some(20)]).await;
        assert_eq!((answer.unwrap(), asked), (20, 2));
        assert_eq!(took, Duration::from_millis(120));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_slow_is_heard() {
        let (answer, asked, _) = asked(&[Some(1_500)]).await;
        assert_eq!((answer.unwrap(), asked), (1_500, ATTEMPTS_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_had_no_answer_may_have_come_to_pass() {
        for (first, last) in
            [(Fault::Unknown, Fault::Unknown), (Fault::Unavailable, Fault::Unavailable)]
        {
            let asked = AtomicU32::new(0);
            let (answer, _) = hedged(Action::Release, TIMES, || {
                let fault =
                    if asked.fetch_add(1, Relaxed) == 0 { first } else { Fault::Unavailable };
                ready(Err::<(), _>(LockError::backend(backend::ETCD, Action::Release, fault, "x")))
            })
            .await;
            assert_eq!(answer.unwrap_err().fault(), Some(last));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_member_is_asked_once() {
        for (name, others) in [("one", false), ("one,other", true)] {
            let endpoints = name.split(',').map(str::to_owned).collect();
            let source = Source::endpoints(endpoints, ConnectOptions::new());
            let store = Store::new(Arc::new(source), LockConfig::default());
            let asked = AtomicU32::new(0);
            let answer = store.ask_in_time(Action::Renew, Duration::from_secs(6), |_| {
                asked.fetch_add(1, Relaxed);
                pending::<Result<(), _>>()
            });
            assert!(answer.await.is_err());
            assert_eq!(asked.into_inner() > 1, others);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_in_time_and_failures_at_once() {
        let (answer, _, took) = asked(&[]).await;
        assert_eq!((answer.is_err(), took), (true, TIMES.1));
        let since = Instant::now();
        let failed = hedged(Action::Renew, TIMES, || ready(Err::<(), _>(silent(Action::Renew))));
        assert!(failed.await.0.is_err() && since.elapsed() < Duration::from_millis(700));
    }
}
