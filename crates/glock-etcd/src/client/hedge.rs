//! `hedged`: sends a request to another member as well when the first one is late.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use glock_core::{Action, Fault, LockError, toolkit::Backoff};
use tokio::time::{Instant, timeout};

use crate::{
    client::members::Members,
    error::{is_lease_gone, is_worth_repeating, silent},
};

/// How often a request is sent.
const ATTEMPTS_MAX: u32 = 12;
/// How often it may fail at once: 310 ms in all.
const FAILURES_MAX: u32 = 6;
const PAUSE: Duration = Duration::from_millis(10);

/// Sends a request to another member each time no reply came for `late`, and goes on waiting for the
/// earlier replies: the first one counts. So a silent member costs no more than `late`, and the reply of
/// a slow one counts.
/// For requests that are safe to repeat. Also returns how often it was sent.
pub(crate) async fn hedged<T, F>(
    members: &Members,
    action: Action,
    (late, limit): (Duration, Duration),
    request: impl Fn(usize) -> F + Send + Sync,
) -> (Result<T, LockError>, u32)
where
    T: Send,
    F: Future<Output = Result<T, LockError>> + Send,
{
    let until = Instant::now() + limit;
    let (mut open, mut tried, mut sent, mut failed) = (Vec::new(), Vec::new(), 0, 0);
    let (mut ambiguous, mut backoff) = (None, Backoff::new(PAUSE, Duration::MAX));
    loop {
        if sent < ATTEMPTS_MAX {
            // In a box each: the driver's futures are large, and each waiter has some.
            let member = members.pick(&tried);
            open.push(Box::pin(request(member)));
            tried.push(member);
            sent += 1;
        }
        let left = until.saturating_duration_since(Instant::now());
        match timeout(late.min(left), poll_fn(|cx| poll_all(&mut open, cx))).await {
            Ok(Ok(reply)) => return (Ok(reply), sent),
            Ok(Err(err)) => {
                failed += 1;
                // A request that could not be sent this time may have had its effect the time before.
                let err = match ambiguous.take() {
                    Some(earlier)
                        if err.fault() != Some(Fault::Unknown) && !is_lease_gone(&err) =>
                    {
                        earlier
                    }
                    _ => err,
                };
                let over = failed >= FAILURES_MAX || sent >= ATTEMPTS_MAX;
                if !is_worth_repeating(&err) || over && open.is_empty() {
                    return (Err(err), sent);
                }
                ambiguous = Some(err).filter(|err| err.fault() == Some(Fault::Unknown));
                backoff.sleep().await;
            }
            Err(_) if late < left => {
                if let Some(member) = tried.last() {
                    members.silent(*member);
                }
            }
            Err(_) => return (Err(silent(action)), sent),
        }
    }
}

fn poll_all<F: Future>(open: &mut Vec<Pin<Box<F>>>, cx: &mut Context<'_>) -> Poll<F::Output> {
    for at in 0..open.len() {
        if let Poll::Ready(reply) = open[at].as_mut().poll(cx) {
            drop(open.swap_remove(at));
            return Poll::Ready(reply);
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
    use glock_core::backend;

    use tokio::time::sleep;

    use super::*;
    use crate::client::rpc::Rpc;

    const TIMES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

    fn members() -> Members {
        let endpoints = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(str::to_owned);
        Members::of(endpoints.into(), ConnectOptions::new())
    }

    /// After how many milliseconds each attempt has its reply, in turn; `None` and the others: never.
    async fn sent(replies: &[Option<u64>]) -> (Result<u64, LockError>, u32, Duration) {
        let (sent, since) = (AtomicUsize::new(0), Instant::now());
        let (reply, count) = hedged(&members(), Action::Renew, TIMES, |_| {
            let at = sent.fetch_add(1, Relaxed);
            let after = replies.get(at).copied().flatten();
            async move {
                match after {
                    Some(millis) => sleep(Duration::from_millis(millis)).await,
                    None => pending().await,
                }
                Ok(after.unwrap_or_default())
            }
        })
        .await;
        (reply, count, since.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_member_costs_one_delay() {
        let (reply, sent, took) = sent(&[None, Some(20)]).await;
        assert_eq!((reply.unwrap(), sent), (20, 2));
        assert_eq!(took, Duration::from_millis(120));
    }

    #[tokio::test(start_paused = true)]
    async fn the_reply_of_a_slow_member_counts() {
        let (reply, sent, _) = sent(&[Some(1_500)]).await;
        assert_eq!((reply.unwrap(), sent), (1_500, ATTEMPTS_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_a_reply_may_have_had_its_effect() {
        for (first, last) in
            [(Fault::Unknown, Fault::Unknown), (Fault::Unavailable, Fault::Unavailable)]
        {
            let sent = AtomicU32::new(0);
            let (reply, _) = hedged(&members(), Action::Release, TIMES, |_| {
                let fault =
                    if sent.fetch_add(1, Relaxed) == 0 { first } else { Fault::Unavailable };
                ready(Err::<(), _>(LockError::backend(backend::ETCD, Action::Release, fault, "x")))
            })
            .await;
            assert_eq!(reply.unwrap_err().fault(), Some(last));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_member_is_sent_the_request_once() {
        for (name, others) in [("127.0.0.1:1", false), ("127.0.0.1:1,127.0.0.1:2", true)] {
            let endpoints = name.split(',').map(str::to_owned).collect();
            let members = Arc::new(Members::of(endpoints, ConnectOptions::new()));
            let rpc = Rpc::new(members, TIMES.1);
            let sent = AtomicU32::new(0);
            let reply = rpc.send(Action::Renew, Some(Duration::from_secs(6)), |_| {
                sent.fetch_add(1, Relaxed);
                pending::<Result<(), _>>()
            });
            assert!(reply.await.0.is_err());
            assert_eq!(sent.into_inner() > 1, others);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_in_time_and_failures_at_once() {
        let (reply, _, took) = sent(&[]).await;
        assert_eq!((reply.is_err(), took), (true, TIMES.1));
        let since = Instant::now();
        let members = members();
        let failed =
            hedged(&members, Action::Renew, TIMES, |_| ready(Err::<(), _>(silent(Action::Renew))));
        assert!(failed.await.0.is_err() && since.elapsed() < Duration::from_millis(700));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_member_costs_one_attempt_and_later_calls_none() {
        let (members, silent_one, mut calls) = (members(), 1, Vec::new());
        for _ in 0..9 {
            let (reply, sent) = hedged(&members, Action::Renew, TIMES, async |member| {
                if member == silent_one {
                    pending::<()>().await;
                }
                Ok(member)
            })
            .await;
            assert_ne!(reply.unwrap(), silent_one);
            calls.push(sent);
        }
        assert_eq!(calls.iter().sum::<u32>(), 9 + 1, "{calls:?}");
    }
}
