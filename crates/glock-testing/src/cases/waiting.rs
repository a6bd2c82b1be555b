//! Waiters are woken, in order, and none is forgotten.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_core::{Lease, Lock, LockError, LockExt, Retry};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use super::{LONG, PATIENT, SHORT, SLACK, assert_free, id, take};
use crate::{Fixture, ttl};

/// Waits in a task; when the lock was granted, and the lease.
fn waiter<L: Lock + Clone>(lock: &L, name: &'static str) -> JoinHandle<(Instant, Lease)> {
    let lock = lock.clone();
    tokio::spawn(async move {
        let lease = lock.acquire_with_retry(name, ttl(&lock, LONG), PATIENT).await.unwrap();
        (Instant::now(), lease)
    })
}

/// Who waits for a free lock does not sleep.
pub async fn a_free_lock_is_not_waited_for<F: Fixture>(fixture: &F) {
    let lock = fixture.client().await;
    let slept = timeout(SLACK * 5, lock.wait(&id("x"), LONG)).await;
    slept.expect("it slept").unwrap();
    let lease = take(&lock, &id("x")).await;
    lock.release(&lease).await.unwrap();
    let slept = timeout(SLACK * 5, lock.wait(&id("x"), LONG)).await;
    slept.expect("it slept after a release").unwrap();
}

/// A release wakes a waiter of another client long before the lease would have run out.
pub async fn a_waiter_is_woken_by_a_release<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    for _ in 0..3 {
        let lease = take(&theirs, &id("x")).await;
        let waiter = waiter(&ours, "x");
        sleep(SHORT).await;
        assert!(!waiter.is_finished());
        let released_at = Instant::now();
        theirs.release(&lease).await.unwrap();
        let (granted_at, lease) = waiter.await.unwrap();
        assert!(granted_at - released_at < SLACK, "woken after {:?}", granted_at - released_at);
        ours.release(&lease).await.unwrap();
    }
}

/// A waiter is granted the lock of a holder that vanished, soon after its lease has run out.
pub async fn a_waiter_gets_a_lock_that_runs_out<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let asked = Instant::now();
    let vanished = theirs.acquire(&id("x"), ttl(&theirs, SHORT)).await.unwrap();
    let latest = ours.capabilities().expiry_latest(vanished.ttl()) + SLACK;
    let (granted_at, lease) = waiter(&ours, "x").await.unwrap();
    assert!(granted_at - asked <= latest, "granted after {:?}", granted_at - asked);
    ours.release(&lease).await.unwrap();
}

/// However close a release and the beginning of a sleep are, the sleeper notices.
pub async fn a_release_just_before_the_sleep_is_not_missed<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
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
        let woken = timeout(SLACK * 5, sleeper).await;
        woken.unwrap_or_else(|_| panic!("round {round}: the release was missed")).unwrap().unwrap();
    }
}

/// Waiting ends when its time is up, with an error that says so.
pub async fn a_wait_ends_in_time<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&theirs, &id("x")).await;
    let since = Instant::now();
    let result = ours.acquire_with_retry("x", ttl(&ours, LONG), Retry::within(SHORT)).await;
    assert!(matches!(result, Err(LockError::Timeout { .. })), "{result:?}");
    assert!(since.elapsed() >= SHORT && since.elapsed() < SHORT + SLACK, "{:?}", since.elapsed());

    let since = Instant::now();
    ours.wait(&id("x"), SHORT).await.unwrap();
    assert!(since.elapsed() < SHORT + SLACK, "{:?}", since.elapsed());

    let retry = Retry::times(2, Duration::from_millis(50));
    let result = ours.acquire_with_retry("x", ttl(&ours, LONG), retry).await;
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
    tasks.join_all().await;
    assert_eq!(*served.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

/// The first in line gives up; the second is served, and no place is left.
pub async fn a_waiter_that_gives_up_leaves_no_place_behind<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let lease = take(&theirs, &id("x")).await;
    let first = waiter(&ours, "x");
    sleep(SHORT / 3).await;
    let second = waiter(&ours, "x");
    sleep(SHORT / 3).await;
    first.abort();
    let _ = first.await;
    let released_at = Instant::now();
    theirs.release(&lease).await.unwrap();
    let (granted_at, lease) = timeout(LONG / 2, second).await.expect("nobody was served").unwrap();
    assert!(granted_at - released_at < SLACK * 2, "served after {:?}", granted_at - released_at);
    ours.release(&lease).await.unwrap();
    assert!(ours.queue().is_none_or(glock_core::WaitQueue::is_empty));
    assert_free(&theirs, &id("x")).await;
}

/// Waiters of two clients hand the lock on until all were served.
pub async fn waiters_of_two_clients_are_all_served<F: Fixture>(fixture: &F) {
    let clients = [fixture.client().await, fixture.client().await];
    let since = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let lock = clients[n % 2].clone();
        tasks.spawn(async move {
            let lease = lock.acquire_with_retry("x", ttl(&lock, LONG), PATIENT).await.unwrap();
            sleep(Duration::from_millis(1)).await;
            lock.release(&lease).await.unwrap();
        });
    }
    tasks.join_all().await;
    assert!(since.elapsed() < LONG / 4, "a hand-over was missed: {:?}", since.elapsed());
}
