//! The queue that the store keeps: one order for all clients, and no place that a waiter who is gone
//! keeps. Where the store keeps none ([`Fairness::Client`]), there is nothing to check.

use std::{
    sync::{Arc, Mutex},
    thread,
};

use glock_core::{Fairness, Lease, Lock, LockError, LockExt};
use tokio::{
    runtime::Builder,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use crate::cases::{LONG, PATIENT, WATCHED, id, soon, take, until_free, within};
use crate::{
    Fixture,
    process::{eventually, settles},
    ttl,
};

/// Whether the store keeps the queue.
pub(crate) fn is_kept(lock: &impl Lock) -> bool {
    lock.capabilities().fairness == Fairness::Store
}

/// Returns when the store has so many waiters in the queue of `x`.
pub(super) async fn joined<F: Fixture>(fixture: &F, waiters: usize) {
    let are_there = async || fixture.waiters(&id("x")).await == waiters;
    eventually(&format!("the queue has {waiters} waiters"), LONG / 4, are_there).await;
}

/// Who came first is served first, whichever of three clients asked.
pub async fn three_clients_are_served_in_the_order_of_arrival<F: Fixture>(fixture: &F) {
    let clients = [fixture.client().await, fixture.client().await, fixture.client().await];
    let theirs = fixture.client().await;
    if !is_kept(&theirs) {
        return;
    }
    let lease = take(&theirs, &id("x")).await;
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    // Not in turns: those come about by themselves where clients race.
    let whose = [0, 0, 0, 1, 2, 1, 1, 0, 2, 1];
    for (n, whose) in whose.into_iter().enumerate() {
        let (ours, served) = (clients[whose].clone(), Arc::clone(&served));
        tasks.spawn(async move {
            let lease = ours.acquire_with_retry("x", ttl(&ours, LONG), PATIENT).await.unwrap();
            served.lock().unwrap().push(n);
            ours.release(&lease).await.unwrap();
        });
        joined(fixture, n + 1).await;
    }
    theirs.release(&lease).await.unwrap();
    soon("all are served", LONG / 4, tasks.join_all()).await;
    assert_eq!(*served.lock().unwrap(), (0..whose.len()).collect::<Vec<_>>());
}

/// A waiter, which holds the lock until it is let go.
pub(super) struct Waiter {
    task: JoinHandle<()>,
    granted: oneshot::Receiver<()>,
    end_hold: oneshot::Sender<()>,
}

impl Waiter {
    /// Returns when the store has the waiter in its queue.
    pub(super) async fn start<F: Fixture>(fixture: &F, lock: &F::Lock) -> Self {
        let (lock, before) = (lock.clone(), fixture.waiters(&id("x")).await);
        let ((grant, granted), (end_hold, until)) = (oneshot::channel(), oneshot::channel());
        let task = tokio::spawn(async move {
            let lease = lock.acquire_with_retry("x", ttl(&lock, LONG), PATIENT).await.unwrap();
            let _ = grant.send(());
            let _ = until.await;
            lock.release(&lease).await.unwrap();
        });
        joined(fixture, before + 1).await;
        Self { task, granted, end_hold }
    }

    pub(super) async fn is_served<F: Fixture>(&mut self, fixture: &F) {
        soon("the waiter is served", fixture.patience(), &mut self.granted).await.unwrap();
    }

    /// Releases the lock; an earlier waiter holds up this one no longer than the store says.
    pub(super) async fn served_after<F: Fixture>(
        mut self,
        theirs: &F::Lock,
        lease: &Lease,
    ) -> Self {
        theirs.release(lease).await.unwrap();
        let served = &mut self.granted;
        within(theirs, "the next waiter is served", F::PASSED_OVER_MAX, served).await.unwrap();
        self
    }

    pub(super) async fn end_hold(self) {
        self.end_hold.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// A try that comes right after a release does not overtake a waiter.
pub async fn a_try_does_not_barge<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    if !is_kept(&ours) {
        return;
    }
    for round in 0..10 {
        let lease = take(&theirs, &id("x")).await;
        let mut waiter = Waiter::start(fixture, &ours).await;
        theirs.release(&lease).await.unwrap();
        let tried = theirs.acquire(&id("x"), ttl(&theirs, LONG)).await;
        assert!(
            matches!(tried, Err(LockError::Held { .. })),
            "round {round}: a try overtook a waiter: {tried:?}"
        );
        waiter.is_served(fixture).await;
        waiter.end_hold().await;
    }
}

/// The first waiter is cancelled: the second is served as if it had been the first.
pub async fn a_cancelled_waiter_is_passed_over<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    let third = fixture.client().await;
    if !is_kept(&ours) {
        return;
    }
    for _ in 0..5 {
        let lease = take(&theirs, &id("x")).await;
        let first = Waiter::start(fixture, &ours).await;
        let second = Waiter::start(fixture, &third).await;
        first.task.abort();
        let _ = first.task.await;
        second.served_after::<F>(&theirs, &lease).await.end_hold().await;
    }
}

/// A client vanishes with its runtime while it waits, and says nothing: soon a try is granted, and nothing
/// of its place is left.
pub async fn a_place_left_behind_is_gone<F: Fixture>(fixture: &F) {
    let theirs = fixture.client().await;
    if !is_kept(&theirs) {
        return;
    }
    let lease = take(&theirs, &id("x")).await;
    thread::scope(|scope| {
        let vanishes = scope.spawn(|| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let ours = fixture.client().await;
                tokio::spawn(async move {
                    ours.acquire_with_retry("x", ttl(&ours, LONG), PATIENT).await.unwrap()
                });
                joined(fixture, 1).await;
            });
            // The waiter is dropped where nothing can be sent any more.
            runtime.shutdown_background();
        });
        vanishes.join().unwrap();
    });
    theirs.release(&lease).await.unwrap();
    let x = id("x");
    let free = until_free(&theirs, &x);
    let lease = within(&theirs, "the place is gone", F::PASSED_OVER_MAX, free).await;
    theirs.release(&lease).await.unwrap();
    let patience = fixture.patience() * 3;
    settles("what the store keeps", patience, 0, async || fixture.residue().await).await;
}

/// A waiter that its program does not poll any more is not awake for its turn, while its client lives on:
/// the turn passes to the next waiter, of another client and of its own. Where the store reserves a lock.
pub async fn a_turn_that_is_not_used_passes_on<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    if !is_kept(&theirs) || !F::RESERVES {
        return;
    }
    for second in [&fixture.client().await, &ours] {
        passes_on(fixture, &ours, &theirs, second).await;
    }
}

async fn passes_on<F: Fixture>(fixture: &F, ours: &F::Lock, theirs: &F::Lock, second: &F::Lock) {
    let lease = take(theirs, &id("x")).await;
    let waiting = ours.acquire_with_retry("x", ttl(ours, LONG), PATIENT);
    let mut asleep = Box::pin(waiting);
    // Polled until the second one has joined behind it: then it has its reply as well.
    let mut second = tokio::select! {
        granted = &mut asleep => panic!("a waiter was granted a lock that is held: {granted:?}"),
        second = async {
            joined(fixture, 1).await;
            Waiter::start(fixture, second).await
        } => second,
    };
    theirs.release(&lease).await.unwrap();
    let served = &mut second.granted;
    within(theirs, "the turn passes on", F::PASSED_OVER_MAX, served).await.unwrap();
    // It joins again once it is polled.
    let (granted, ()) = tokio::join!(soon("the waiter is served", LONG, asleep), second.end_hold());
    ours.release(&granted.unwrap()).await.unwrap();
}

/// An operator, or a server that lost its data, removes all that the store has about a lock: its waiters
/// are not told, and are served all the same.
pub async fn a_waiter_whose_place_was_lost_joins_again<F: Fixture>(fixture: &F) {
    let (ours, theirs) = (fixture.client().await, fixture.client().await);
    if !is_kept(&theirs) {
        return;
    }
    let _forgotten = take(&theirs, &id("x")).await;
    let mut waiters = [Waiter::start(fixture, &ours).await, Waiter::start(fixture, &theirs).await];
    fixture.forget(&id("x")).await;
    // Another owner is first: so the waiters cannot be granted a lock without a queue.
    let taken = theirs.acquire(&id("x"), ttl(&theirs, LONG)).await;
    if let Ok(lease) = taken {
        sleep(WATCHED * 3).await;
        theirs.release(&lease).await.unwrap();
    }
    let what = "a waiter whose place was lost is served";
    let [one, other] = &mut waiters;
    let one_is_first = tokio::select! {
        _ = soon(what, fixture.patience(), &mut one.granted) => true,
        _ = soon(what, fixture.patience(), &mut other.granted) => false,
    };
    let [one, other] = waiters;
    let (first, mut second) = if one_is_first { (one, other) } else { (other, one) };
    first.end_hold().await;
    soon(what, fixture.patience(), &mut second.granted).await.unwrap();
    second.end_hold().await;
}
