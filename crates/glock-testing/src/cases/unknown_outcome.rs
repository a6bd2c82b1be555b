//! Connections cut before, in and after a request: no hold is left without a holder.

use std::time::Duration;

use glock_core::{Fault, Lock, LockError, LockExt, LossReason, Retry};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::cases::{
    LONG, SHORT, WATCHED, assert_free, assert_freed, assert_held, id, soon, take, until_warm,
    within,
};
use crate::{
    Networked, Proxy,
    process::{eventually, settles},
    ttl,
};

/// How often, and so at how many places, a request or a reply is cut.
const ROUNDS: usize = 12;

/// Acquires through a proxy with a fault in force, and looks at what is left.
async fn acquire_through<F: Networked>(fixture: &F, arm: impl Fn(&Proxy, usize)) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let limit = Duration::from_secs(3);
    let config = fixture.config().with_call_timeout(limit);
    let (lock, theirs) = (fixture.client_at(proxy.addr(), config).await, fixture.client().await);
    assert_free(&lock, &id("warm")).await;
    for round in 0..ROUNDS {
        let name = id(&format!("x{round}"));
        arm(&proxy, round);
        let acquiring = lock.acquire(&name, ttl(&lock, LONG));
        let result = within(&theirs, "the call ends", limit, acquiring).await;
        assert!(!proxy.is_armed(), "the fault did not happen");
        match result {
            // It was asked for again: a grant like any other.
            Ok(lease) => {
                assert_eq!(fixture.owner(&name).await.as_deref(), Some(lease.owner().reveal()));
                let holder = theirs.inspect(&name).await.unwrap().expect("a holder");
                assert_eq!(lease.fence(), holder.fence, "round {round}: another token");
                lock.release(&lease).await.unwrap();
            }
            Err(LockError::Backend { fault: Fault::Unknown | Fault::Unavailable, .. }) => {}
            Err(err) => panic!("round {round}: {err:?}"),
        }
        assert_freed(fixture, &name, fixture.patience()).await;
        assert_free(&lock, &id("after")).await;
    }
    sleep(WATCHED).await;
    assert_eq!(fixture.live().await, 0, "a grant came late and was not taken back");
}

/// The connection is reset by the first byte of the request.
pub async fn a_cut_before_the_request_leaves_nothing<F: Networked>(fixture: &F) {
    acquire_through(fixture, |proxy, _| proxy.cut_before_request()).await;
}

/// The connection is reset when a part of the request has passed.
pub async fn a_cut_inside_the_request_leaves_nothing<F: Networked>(fixture: &F) {
    acquire_through(fixture, |proxy, round| proxy.cut_inside_request(1 + round * 9)).await;
}

/// The store does it, and the connection is reset by the first byte of the reply.
pub async fn a_cut_after_the_request_leaves_nothing<F: Networked>(fixture: &F) {
    acquire_through(fixture, |proxy, _| proxy.cut_after_request()).await;
}

/// The store does it, and only a part of the reply arrives.
pub async fn a_cut_inside_the_reply_leaves_nothing<F: Networked>(fixture: &F) {
    acquire_through(fixture, |proxy, round| proxy.cut_inside_reply(1 + round)).await;
}

/// The connection is reset, and what was sent on it reaches the store long after: when the call is
/// over, and a lock that it took after all was released.
pub async fn a_request_that_arrives_late_leaves_nothing<F: Networked>(fixture: &F) {
    const LATE: Duration = Duration::from_millis(1_200);
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let config = fixture.config().with_call_timeout(Duration::from_secs(3));
    let (lock, theirs) = (fixture.client_at(proxy.addr(), config).await, fixture.client().await);
    for round in 0..2 {
        assert_free(&lock, &id("warm")).await;
        let (name, before) = (id(&format!("x{round}")), proxy.counts());
        proxy.cut_and_deliver_late(LATE);
        match lock.acquire(&name, ttl(&lock, LONG)).await {
            Ok(lease) => lock.release(&lease).await.unwrap(),
            Err(LockError::Backend { fault: Fault::Unknown | Fault::Unavailable, .. }) => {}
            Err(err) => panic!("round {round}: {err:?}"),
        }
        assert!(!proxy.is_armed(), "the fault did not happen");
        let arrived = async || (proxy.counts() - before).late == 1;
        if F::RECEIVES_LATE_REQUESTS {
            eventually("it reaches the store late", LATE + fixture.patience(), arrived).await;
        } else {
            sleep(LATE + WATCHED).await;
            assert!(!arrived().await, "it reached the store");
        }
        assert_freed(fixture, &name, fixture.patience()).await;
        assert_free(&theirs, &name).await;
    }
    assert_eq!(fixture.live().await, 0, "a request came late and was not taken back");
    settles("what the store keeps", fixture.patience(), 0, async || fixture.residue().await).await;
}

/// The reply is held back beyond the call's time limit: an error in time, and the lock is taken
/// back once the store can be reached again.
pub async fn a_grant_that_arrives_too_late_is_taken_back<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let limit = Duration::from_millis(400);
    let lock = fixture.client_at(proxy.addr(), fixture.config().with_call_timeout(limit)).await;
    let theirs = fixture.client().await;
    until_warm(fixture, &lock).await;
    proxy.hold_replies();
    let (name, before) = (id("x"), proxy.requests());
    let acquiring = lock.acquire(&name, ttl(&lock, LONG));
    let result = within(&theirs, "the call ends", limit, acquiring).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Unknown));
    // A call that has more than one attempt may have taken it back by now: only the replies are held.
    assert!(proxy.requests() > before, "nothing was requested");
    // The call has long failed, and its first undo as well.
    sleep(limit * 2).await;
    proxy.pass();
    assert_freed(fixture, &name, fixture.patience()).await;
    // By a client with time: the other one's calls may be too short for a busy machine.
    assert_free(&theirs, &name).await;
    until_warm(fixture, &lock).await;
}

/// The store releases, and the answer is lost: no error, or one that says so; the lock is free.
pub async fn a_release_whose_reply_is_cut_frees_the_lock<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let (lock, theirs) =
        (fixture.client_at(proxy.addr(), fixture.config()).await, fixture.client().await);
    for _ in 0..5 {
        let lease = take(&lock, &id("x")).await;
        proxy.cut_after_request();
        match lock.release(&lease).await {
            Ok(()) | Err(LockError::Backend { fault: Fault::Unknown, .. }) => {}
            other => panic!("{other:?}"),
        }
        assert!(!proxy.is_armed(), "the fault did not happen");
        assert_freed(fixture, &id("x"), fixture.patience()).await;
        assert_free(&theirs, &id("x")).await;
    }
}

/// A release that never reached the store is not called done, and can be done again.
pub async fn a_release_whose_request_is_cut_is_not_called_done<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let (lock, theirs) =
        (fixture.client_at(proxy.addr(), fixture.config()).await, fixture.client().await);
    for _ in 0..5 {
        let lease = take(&lock, &id("x")).await;
        proxy.cut_before_request();
        match lock.release(&lease).await {
            Ok(()) => assert_eq!(fixture.owner(&id("x")).await, None, "called done and is not"),
            Err(LockError::Backend { fault: Fault::Unknown | Fault::Unavailable, .. }) => {
                match lock.release(&lease).await {
                    Ok(()) | Err(LockError::NotHeld { .. }) => {}
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
        assert!(!proxy.is_armed(), "the fault did not happen");
        assert_free(&theirs, &id("x")).await;
    }
}

/// The store renews, and the answer is lost: the caller does not get `NotHeld`.
pub async fn a_renewal_whose_reply_is_cut_keeps_the_lock<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let (lock, theirs) =
        (fixture.client_at(proxy.addr(), fixture.config()).await, fixture.client().await);
    let mut lease = take(&lock, &id("x")).await;
    for round in 0..6 {
        if round % 2 == 0 {
            proxy.cut_after_request();
        } else {
            proxy.cut_before_request();
        }
        match lock.renew(&lease, ttl(&lock, LONG)).await {
            Ok(renewed) => lease = renewed,
            Err(LockError::Backend { fault: Fault::Unknown | Fault::Unavailable, .. }) => {}
            other => panic!("round {round}: {other:?}"),
        }
        assert!(!proxy.is_armed(), "the fault did not happen");
        assert_held(&theirs, &id("x")).await;
        lease = lock.renew(&lease, ttl(&lock, LONG)).await.expect("the lease is as good as ever");
    }
    lock.release(&lease).await.unwrap();
}

/// However long the answer takes, the deadline counts from before the request was sent.
pub async fn a_slow_answer_does_not_stretch_a_lease<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let lock = fixture.client_at(proxy.addr(), fixture.config()).await;
    assert_free(&lock, &id("warm")).await;
    // Far more than the margin that a lease keeps.
    let (each_way, ttl) = (Duration::from_millis(150), ttl(&lock, Duration::from_secs(5)));
    proxy.delay(each_way);
    let granted = lock.acquire(&id("x"), ttl).await.unwrap();
    // Both ways have passed since the request was sent.
    let sent_by = Instant::now() - 2 * each_way;
    assert!(
        granted.deadline() <= sent_by + granted.ttl(),
        "the grant's deadline: {:?} is left",
        granted.remaining()
    );
    let renewed = lock.renew(&granted, ttl).await.unwrap();
    let sent_by = Instant::now() - 2 * each_way;
    assert!(
        renewed.deadline() <= sent_by + renewed.ttl(),
        "the renewal's deadline: {:?} is left",
        renewed.remaining()
    );
    lock.release(&renewed).await.unwrap();
}

/// Enough for most of them to be lost while the machine is not busy with something else.
const GUARDS: usize = 9;
/// Apart from each other, so that they are not late together.
const APART: Duration = Duration::from_millis(20);
/// How much later than a timer most losses may be reported, and any on a busy machine.
const LATE_MOST: Duration = Duration::from_millis(50);
const LATE_MAX: Duration = Duration::from_millis(500);
/// What a plain timer is set ahead, to be back in time in spite of its granularity and of others
/// who have their turn first.
const LEAD: Duration = Duration::from_millis(2);
/// Timers count in milliseconds, and two of one millisecond fire in any order.
const TICK: Duration = Duration::from_millis(1);

/// The store renews, and its replies are held back: guards are lost by their deadlines, not later.
pub async fn a_renewal_whose_reply_is_held_is_lost_by_the_deadline<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let lock = fixture.client_at(proxy.addr(), fixture.config()).await;
    let ttl = ttl(&lock, 3 * SHORT);
    let mut guards = Vec::new();
    for n in 0..GUARDS {
        guards.push(lock.hold(format!("x{n}"), ttl, Retry::NEVER).await.unwrap());
        sleep(APART).await;
    }
    proxy.hold_replies();
    let mut losses = JoinSet::new();
    let limit = ttl + fixture.patience();
    for guard in guards {
        let deadline = Instant::now() + guard.remaining();
        let timer = tokio::spawn(async move {
            sleep_until(deadline - LEAD).await;
            late_by(deadline)
        });
        losses.spawn(async move {
            let reason = soon("the loss is reported", limit, guard.lost()).await;
            let late = late_by(deadline);
            assert!(matches!(reason, LossReason::Expired), "{reason:?}");
            assert!(!guard.is_valid());
            // What the machine adds, it adds to a plain timer as well.
            let late = late.saturating_sub(timer.await.unwrap());
            assert!(
                late < LATE_MAX,
                "reported {late:?} after a timer that was set to the deadline"
            );
            (late, guard)
        });
    }
    let (mut late, guards): (Vec<_>, Vec<_>) = losses.join_all().await.into_iter().unzip();
    late.sort_unstable();
    assert!(late[GUARDS / 2] < TICK, "most are reported after their deadlines: {late:?}");
    assert!(late[GUARDS * 3 / 4] < LATE_MOST, "many are reported after their deadlines: {late:?}");
    proxy.pass();
    drop(guards);
    let until = lock.capabilities().expiry_latest(ttl) + fixture.patience();
    for n in 0..GUARDS {
        assert_freed(fixture, &id(&format!("x{n}")), until).await;
    }
}

fn late_by(deadline: Instant) -> Duration {
    Instant::now().saturating_duration_since(deadline)
}
