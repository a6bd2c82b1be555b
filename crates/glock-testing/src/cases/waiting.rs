//! Waiters are woken, in order, and none is forgotten.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_core::{
    Lease, Lock, LockError, LockExt, Retry, Waiting,
    toolkit::{LockHooks, WaitQueue},
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

use crate::cases::{LONG, PATIENT, SHORT, assert_free, beside, id, soon, take, until_free, within};
use crate::{Fixture, ttl};

/// Waits in a task, and returns the lease.
fn waiter<L: Lock + Clone>(lock: &L, name: &'static str) -> JoinHandle<Lease> {
    let lock = lock.clone();
    tokio::spawn(
        async move { lock.acquire_with_retry(name, ttl(&lock, LONG), PATIENT).await.unwrap() },
    )
}

/// A waiter that the store wakes has the lock before so many requests of another client have their
/// replies, see [`beside`]. A poller that asks once a second needs twice as long.
const WOKEN_BY: u32 = 15;
/// A waiter that has missed a release does not notice it before: not even if it sends a query again
/// that blocks for five seconds.
const NOT_MISSED_BY: u32 = 150;

/// Who waits for a free lock does not sleep.
pub async fn a_free_lock_is_not_waited_for<F: Fixture>(fixture: &F) {
    let lock = fixture.client().await;
    soon("what was never held is free", fixture.patience(), lock.wait(&id("x"), LONG))
        .await
        .unwrap();
    let lease = take(&lock, &id("x")).await;
    lock.release(&lease).await.unwrap();
    soon("what was released is free", fixture.patience(), lock.wait(&id("x"), LONG)).await.unwrap();
}

/// A release wakes a waiter of another client long before the lease would have run out, and at once
/// where the store wakes it.
pub async fn a_waiter_is_woken_by_a_release<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let clock = fixture.client().await;
    assert_free(&clock, &id("warm")).await;
    let mut replies = Vec::new();
    for _ in 0..5 {
        let lease = take(&theirs, &id("x")).await;
        let waiter = waiter(&ours, "x");
        sleep(SHORT).await;
        assert!(!waiter.is_finished());
        theirs.release(&lease).await.unwrap();
        let granted = soon("a release wakes the waiter", fixture.patience(), waiter);
        let (granted, meanwhile) = beside(&clock, u32::MAX, pin!(granted)).await.unwrap();
        ours.release(&granted.unwrap()).await.unwrap();
        replies.push(meanwhile);
        // One may have been late on a busy machine.
        let late = replies.iter().filter(|replies| **replies > WOKEN_BY).count();
        let polls = ours.capabilities().waiting == Waiting::Polled;
        assert!(late < 2 || polls, "woken only after {replies:?} requests of another client");
    }
}

/// For ever is a time to wait that no clock, reply or parameter overflows on.
pub async fn a_wait_for_ever_is_woken<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    for max in [Duration::MAX, Duration::from_secs(u64::MAX / 1000)] {
        let lease = take(&theirs, &id("x")).await;
        let sleeper = tokio::spawn({
            let ours = ours.clone();
            async move { ours.wait(&id("x"), max).await }
        });
        let waiter = tokio::spawn({
            let (ours, retry) = (ours.clone(), Retry::within(max).with_pause_max(max));
            async move { ours.acquire_with_retry("x", ttl(&ours, LONG), retry).await }
        });
        sleep(SHORT).await;
        assert!(!waiter.is_finished());
        theirs.release(&lease).await.unwrap();
        let lease =
            soon("the waiter is served", fixture.patience(), waiter).await.unwrap().unwrap();
        ours.release(&lease).await.unwrap();
        // Last, because a client that polls may not have looked while the lock was free.
        soon("the sleeper wakes", fixture.patience(), sleeper).await.unwrap().unwrap();
    }
}

/// A waiter is granted the lock of a holder that vanished, soon after its lease has run out.
pub async fn a_waiter_gets_a_lock_that_runs_out<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let vanished = theirs.acquire(&id("x"), ttl(&theirs, SHORT)).await.unwrap();
    let latest = ours.capabilities().expiry_latest(vanished.ttl());
    let waiter = waiter(&ours, "x");
    let granted = within(&theirs, "the lease's end wakes the waiter", latest, waiter).await;
    ours.release(&granted.unwrap()).await.unwrap();
}

/// However close a release and the beginning of a sleep are, the sleeper notices.
pub async fn a_release_just_before_the_sleep_is_not_missed<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let clock = fixture.client().await;
    assert_free(&clock, &id("warm")).await;
    for round in 0..60_u32 {
        let lease = take(&theirs, &id("x")).await;
        let sleeper = tokio::spawn({
            let ours = ours.clone();
            async move { ours.wait(&id("x"), LONG).await }
        });
        // Around the time that subscribing takes: before, within and after it.
        let pause = Duration::from_micros(u64::from(round % 20) * 60);
        let since = Instant::now();
        while since.elapsed() < pause {
            tokio::task::yield_now().await;
        }
        theirs.release(&lease).await.unwrap();
        let sleeper = soon("the release was missed", fixture.patience(), sleeper);
        let woken = beside(&clock, NOT_MISSED_BY, pin!(sleeper)).await;
        let (woken, _) = woken.unwrap_or_else(|| panic!("round {round}: the release was missed"));
        woken.unwrap().unwrap();
    }
}

/// Waiting ends when its time is up, with an error that says so.
pub async fn a_wait_ends_in_time<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&theirs, &id("x")).await;
    let since = Instant::now();
    let waiting = ours.acquire_with_retry("x", ttl(&ours, LONG), Retry::within(SHORT));
    let result = within(&theirs, "a wait with a limit ends", SHORT, waiting).await;
    assert!(matches!(result, Err(LockError::Timeout { .. })), "{result:?}");
    assert!(since.elapsed() >= SHORT, "{:?}", since.elapsed());

    let name = id("x");
    let sleeping = ours.wait(&name, SHORT);
    within(&theirs, "a sleep with a limit ends", SHORT, sleeping).await.unwrap();

    let retry = Retry::times(2, Duration::from_millis(50));
    let waiting = ours.acquire_with_retry("x", ttl(&ours, LONG), retry);
    let result = soon("three tries end", fixture.patience(), waiting).await;
    assert!(matches!(result, Err(LockError::Held { .. })), "{result:?}");
    theirs.release(&lease).await.unwrap();
}

/// Who came first is served first.
pub async fn waiters_of_one_client_are_served_in_order<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&theirs, &id("x")).await;
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for n in 0..10 {
        let (ours, served) = (ours.clone(), Arc::clone(&served));
        tasks.spawn(async move {
            let lease = ours.acquire_with_retry("x", ttl(&ours, LONG), PATIENT).await.unwrap();
            served.lock().unwrap().push(n);
            ours.release(&lease).await.unwrap();
        });
        sleep(Duration::from_millis(20)).await;
    }
    theirs.release(&lease).await.unwrap();
    soon("all are served", LONG / 4, tasks.join_all()).await;
    assert_eq!(*served.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

/// The first in the queue gives up; the second is served, and no place is left.
pub async fn a_waiter_that_gives_up_leaves_no_place_behind<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&theirs, &id("x")).await;
    let first = waiter(&ours, "x");
    sleep(SHORT / 3).await;
    let second = waiter(&ours, "x");
    sleep(SHORT / 3).await;
    first.abort();
    let _ = first.await;
    theirs.release(&lease).await.unwrap();
    let lease =
        soon("the second in the queue is served", fixture.patience(), second).await.unwrap();
    ours.release(&lease).await.unwrap();
    assert!(ours.queue().is_none_or(WaitQueue::is_empty));
    // A place that the store keeps is given up in the background.
    let x = id("x");
    let free = until_free(&theirs, &x);
    let lease = soon("no place is left", fixture.patience(), free).await;
    theirs.release(&lease).await.unwrap();
}

/// Waiters of two clients hand the lock on until all were served.
pub async fn waiters_of_two_clients_are_all_served<F: Fixture>(fixture: &F) {
    let clients = [fixture.client().await, fixture.client().await];
    let clock = fixture.client().await;
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let lock = clients[n % 2].clone();
        tasks.spawn(async move {
            let lease = lock.acquire_with_retry("x", ttl(&lock, LONG), PATIENT).await.unwrap();
            sleep(Duration::from_millis(1)).await;
            lock.release(&lease).await.unwrap();
        });
    }
    // However many they are: each hand-over is soon, so there is always one to come.
    loop {
        let next = soon("no hand-over is missed", fixture.patience(), tasks.join_next());
        let served = beside(&clock, NOT_MISSED_BY, pin!(next)).await;
        let Some(served) = served.expect("no hand-over is missed").0 else { return };
        served.unwrap();
    }
}
