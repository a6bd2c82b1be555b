//! A guard whose lease is bound to a session ends with it, and no sooner.

use std::time::Duration;

use glock_core::{Action, Guard, LockExt, LossReason, Retry, toolkit::SessionDeadline};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::scripted::Scripted;

const TTL: Duration = Duration::from_secs(30);
const ALIVE: Duration = Duration::from_secs(4);
const HEARTBEAT: Duration = Duration::from_secs(1);

async fn hold(session: &SessionDeadline) -> (Scripted, Guard) {
    let lock = Scripted::default().bound_to(session);
    let guard = lock.hold("x", TTL, Retry::NEVER).await.unwrap();
    (lock, guard)
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_kept_alive_keeps_a_longer_lease() {
    let (from, session) = (Instant::now(), SessionDeadline::new(Instant::now() + ALIVE));
    let (lock, guard) = hold(&session).await;
    for _ in 0..60 {
        sleep(HEARTBEAT).await;
        session.extend(Instant::now() + ALIVE);
        assert!(guard.is_valid() && guard.remaining() == ALIVE);
    }
    let renewals = lock.times(Action::Renew, from);
    assert!((5..=7).contains(&renewals.len()), "a third of the TTL apart: {renewals:?}");
    guard.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_heartbeat_ends_the_hold_in_time() {
    let session = SessionDeadline::new(Instant::now() + ALIVE);
    let (_lock, guard) = hold(&session).await;
    sleep(HEARTBEAT).await;
    session.extend(Instant::now() + ALIVE);
    let from = Instant::now();
    let reason = timeout(TTL, guard.lost()).await.unwrap();
    assert_eq!(reason, LossReason::Expired);
    assert!((ALIVE.mul_f64(0.99)..=ALIVE).contains(&from.elapsed()), "{:?}", from.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_seen_at_the_next_look_before_any_task_has_run() {
    let session = SessionDeadline::new(Instant::now() + ALIVE);
    let (_lock, guard) = hold(&session).await;
    assert!(guard.is_valid());
    advance(ALIVE + HEARTBEAT).await;
    assert!(!guard.is_valid());
    assert_eq!(guard.remaining(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_expired_is_seen_at_the_next_look() {
    let session = SessionDeadline::new(Instant::now() + ALIVE);
    let (_lock, guard) = hold(&session).await;
    session.expire();
    assert!(!guard.is_valid());
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_reported_as_soon_as_the_session_is_over() {
    let session = SessionDeadline::new(Instant::now() + ALIVE);
    let (_lock, guard) = hold(&session).await;
    let expiring = async {
        sleep(HEARTBEAT).await;
        session.expire();
        Instant::now()
    };
    // A caller that waits already learns of it too.
    let lost = async { (timeout(TTL, guard.lost()).await.unwrap(), Instant::now()) };
    let (expired_at, (reason, lost_at)) = tokio::join!(expiring, lost);
    assert_eq!((reason, lost_at), (LossReason::Expired, expired_at));
}
