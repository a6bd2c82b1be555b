//! Which errors a caller gets when the store fails, and how the lock recovers.

use std::{
    error::Error,
    fmt::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use glock_core::{Fault, Lock, LockExt, Retry};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::cases::{
    LONG, PATIENT, assert_free, assert_freed, id, recording::Recording, soon, take, until_free,
    until_taken, until_warm, within,
};
use crate::{CANARY, Networked, Proxy, ttl};

const LIMIT: Duration = Duration::from_secs(2);
/// Fewer grants tell nothing about exclusion.
const GRANTS_MIN: usize = 10;

/// No server listens: `Unavailable` within the time limit, because nothing was changed.
pub async fn a_closed_port_is_unavailable<F: Networked>(fixture: &F) {
    let lock =
        fixture.client_at(closed_port().await, fixture.config().with_call_timeout(LIMIT)).await;
    let clock = fixture.client().await;
    let result = timed(&clock, LIMIT, lock.acquire(&id("x"), ttl(&lock, LONG))).await;
    let err = result.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
    assert!(err.source().is_some(), "the driver's error is out of reach: {err:?}");
    let shown = timed(&clock, LIMIT, lock.inspect(&id("x"))).await;
    assert_eq!(shown.unwrap_err().fault(), Some(Fault::Unavailable));
    let since = Instant::now();
    let waiting = lock.acquire_with_retry("x", ttl(&lock, LONG), Retry::within(LIMIT));
    let result = timed(&clock, LIMIT * 2, waiting).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Unavailable), "said instead of a timeout");
    assert!(since.elapsed() >= LIMIT / 2, "gave up after {:?}", since.elapsed());
}

pub(super) async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// The store refuses a password: `Rejected`, because it will refuse again, without showing the password.
pub async fn a_wrong_password_is_rejected<F: Networked>(fixture: &F) {
    let lock = fixture.stranger_at(fixture.upstream()).await;
    let err = lock.acquire(&id("x"), ttl(&lock, LONG)).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
    let shown = lock.inspect(&id("x")).await.unwrap_err();
    assert_eq!(shown.fault(), Some(Fault::Rejected), "{shown:?}");
    let waiting = lock.acquire_with_retry("x", ttl(&lock, LONG), PATIENT);
    let clock = fixture.client().await;
    let waited = within(&clock, "a waiter fails at once", LIMIT, waiting).await.unwrap_err();
    assert_eq!(waited.fault(), Some(Fault::Rejected), "{waited:?}");
    let mut shown = format!("{lock:?} {lock:#?} {err} {err:?} {err:#?}");
    let mut cause = err.source();
    while let Some(err) = cause {
        write!(shown, " {err} {err:?}").unwrap();
        cause = err.source();
    }
    assert!(!shown.contains(CANARY), "the password is shown: {shown}");
    assert!(shown.contains("check credentials"), "what to do is not said: {shown}");
}

/// The store stops answering in the middle of a call: an error within the time limit, and the same
/// client works again afterwards.
pub async fn a_server_that_stops_in_mid_call_is_noticed_in_time<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let limit = Duration::from_millis(500);
    let lock = fixture.client_at(proxy.addr(), fixture.config().with_call_timeout(limit)).await;
    let clock = fixture.client().await;
    until_warm(fixture, &lock).await;
    let lease = until_taken(fixture, &lock).await;
    // What it needs for wake-ups is there, so that only their store is gone.
    lock.wait(lease.id(), Duration::from_millis(50)).await.unwrap();
    proxy.stall();
    for result in [
        timed(&clock, limit, lock.acquire(&id("x"), ttl(&lock, LONG))).await.map(drop),
        timed(&clock, limit, lock.renew(&lease, ttl(&lock, LONG))).await.map(drop),
        timed(&clock, limit, lock.release(&lease)).await,
        timed(&clock, limit, lock.inspect(&id("x"))).await.map(drop),
    ] {
        let fault = result.unwrap_err().fault();
        assert!(matches!(fault, Some(Fault::Unknown | Fault::Unavailable)), "{fault:?}");
    }
    // It may have slept for its whole limit, which is no failure.
    let _awake_or_failed = timed(&clock, limit * 2, lock.wait(lease.id(), limit)).await;
    proxy.cut();
    proxy.pass();
    let again = lock.acquire_with_retry("y", ttl(&lock, LONG), Retry::within(LIMIT * 4)).await;
    lock.release(&again.expect("the client did not recover")).await.unwrap();
}

async fn timed<T>(clock: &impl Lock, limit: Duration, call: impl Future<Output = T>) -> T {
    within(clock, "the call's time limit did not hold", limit, call).await
}

/// A connection that died while it was idle costs the next call nothing but time.
pub async fn a_connection_cut_while_idle_is_not_noticed<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let lock = fixture.client_at(proxy.addr(), fixture.config()).await;
    // From before the client may have noticed until long after.
    for pause in [0, 20, 50, 100, 200, 400, 50_000].map(Duration::from_micros) {
        let lease = take(&lock, &id("x")).await;
        proxy.cut();
        sleep(pause).await;
        let lease = lock.renew(&lease, ttl(&lock, LONG)).await.unwrap();
        proxy.cut();
        sleep(pause).await;
        lock.release(&lease).await.unwrap();
        proxy.cut();
        sleep(pause).await;
    }
}

/// A waiter whose connection is cut is woken by a release afterwards, and by one that it missed.
pub async fn a_waiter_whose_connection_is_cut_is_still_woken<F: Networked>(fixture: &F) {
    let proxy = Proxy::start(fixture.upstream()).await.unwrap();
    let ours = fixture.client_at(proxy.addr(), fixture.config()).await;
    let theirs = fixture.client().await;
    for missed in [false, true, false, true] {
        let lease = take(&theirs, &id("x")).await;
        let waiter = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire_with_retry("x", ttl(&ours, LONG), PATIENT).await }
        });
        sleep(Duration::from_millis(300)).await;
        if missed {
            proxy.refuse();
        }
        proxy.cut();
        if !missed {
            sleep(Duration::from_millis(700)).await;
        }
        theirs.release(&lease).await.unwrap();
        if missed {
            sleep(Duration::from_millis(300)).await;
            proxy.accept();
        }
        let what = if missed { "a release that it missed wakes it" } else { "a release wakes it" };
        let woken = soon(what, fixture.patience(), waiter).await;
        let lease = woken.unwrap().unwrap();
        ours.release(&lease).await.unwrap();
    }
    assert_free(&theirs, &id("x")).await;
}

/// The connections of two clients that contend are cut again and again, in the midst of requests
/// too: no two hold at a time, and when it is over the lock is free.
pub async fn cuts_never_let_two_hold<F: Networked>(fixture: &F) {
    let (recording, began) = (Recording::default(), Instant::now());
    let done = Arc::new(AtomicBool::new(false));
    let (mut proxies, mut locks, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
    for client in 0..2 {
        let proxy = Proxy::start(fixture.upstream()).await.unwrap();
        let config = fixture.config().with_call_timeout(LIMIT);
        let lock = fixture.client_at(proxy.addr(), config).await;
        for task in 0..4 {
            let (lock, recording, done) = (lock.clone(), recording.clone(), Arc::clone(&done));
            let who = format!("client {client} task {task}");
            tasks.spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    recording.hold_through_faults(&lock, &who).await;
                }
            });
        }
        proxies.push(proxy);
        locks.push(lock);
    }
    for turn in 0.. {
        let proxy = &proxies[turn % 2];
        match turn % 5 {
            0 => proxy.cut_before_request(),
            1 => proxy.cut_inside_request(40),
            2 => proxy.cut(),
            3 => proxy.cut_after_request(),
            _ => proxy.cut_inside_reply(3),
        }
        // Long enough for a store whose connections take a while to make.
        let (before, cut_at) = (recording.grants(), Instant::now());
        sleep(F::CUT_PAUSE / 2 + Duration::from_millis(turn as u64 * 37 % 90)).await;
        // On a busy machine, a connection takes longer to make.
        while recording.grants() == before && cut_at.elapsed() < LIMIT / 2 {
            sleep(Duration::from_millis(5)).await;
        }
        let enough = recording.grants() >= GRANTS_MIN || began.elapsed() >= LIMIT * 15;
        if began.elapsed() >= Duration::from_secs(3) && enough {
            break;
        }
    }
    done.store(true, Ordering::Relaxed);
    proxies.iter().for_each(Proxy::pass);
    soon("the last of them are done", LIMIT * 6, tasks.join_all()).await;
    recording.expect_sound();
    let grants = recording.grants();
    assert!(grants >= GRANTS_MIN, "{grants} grants are too few to tell");
    // What gave up while its connection was cut still takes back its place in the store's queue.
    for lock in locks {
        assert_eq!(lock.drain(LIMIT * 6).await, 0);
    }
    assert_freed(fixture, &id("x"), LIMIT * 6).await;
    // A request to join that arrived late leaves a place until its limit.
    let free = fixture.client().await;
    let lease = soon("a newcomer takes it", LIMIT * 6, until_free(&free, &id("x"))).await;
    free.release(&lease).await.unwrap();
}
