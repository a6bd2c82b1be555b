//! A lock whose clones are used on several runtimes.

use std::{sync::mpsc, thread, time::Duration};

use glock_core::{Guard, Lock, LockError, LockExt, Retry};
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::{
    Fixture,
    cases::{LONG, id, take},
    ttl,
};

/// Longer than the default time limit of a call, by less than a third.
const TTL: Duration = Duration::from_secs(6);
pub(super) const GUARDS: usize = 3;

/// A runtime that used the lock first computes for longer than the TTL: the locks that a clone of it
/// holds on another runtime are not lost, and an acquire there succeeds within its time limit.
pub async fn a_runtime_that_computes_costs_no_other_its_lock<F: Fixture>(fixture: &F) {
    let (runtime, lock) = thread::scope(|scope| {
        let first = scope.spawn(|| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let lock = runtime.block_on(async {
                let lock = fixture.client().await;
                let lease = take(&lock, &id("first")).await;
                lock.release(&lease).await.unwrap();
                lock
            });
            (runtime, lock)
        });
        first.join().unwrap()
    });
    let runs = Runs::start(runtime);
    let guards = hold(&lock).await;
    let _end = runs.compute().await;
    keeps_its_locks(fixture, &lock, guards).await;
}

pub(super) async fn hold<L: Lock + Clone>(lock: &L) -> Vec<Guard> {
    let mut guards = Vec::new();
    for n in 0..GUARDS {
        guards.push(lock.hold(format!("kept {n}"), ttl(lock, TTL), Retry::NEVER).await.unwrap());
    }
    guards
}

/// Asserts that an acquire succeeds, and that no guard is lost before its first TTL is well over.
pub(super) async fn keeps_its_locks<F: Fixture>(fixture: &F, lock: &F::Lock, guards: Vec<Guard>) {
    let until = Instant::now() + guards[0].remaining() * 5 / 4;
    let lease = lock.acquire(&id("other"), ttl(lock, LONG)).await;
    let lease = lease.unwrap_or_else(|err| panic!("not acquired: {err:?}"));
    // On a machine that stands still for an attempt's time, a release may find that it was done before.
    let _done_or_unknown = lock.release(&lease).await;
    sleep_until(until).await;
    for guard in guards {
        assert!(guard.is_valid(), "lost: {guard:?}");
        assert!(fixture.owner(guard.id()).await.is_some(), "lost in the store: {guard:?}");
        let released = guard.release().await;
        assert!(!matches!(released, Err(LockError::NotHeld { .. })), "lost: {released:?}");
    }
}

/// A runtime on a thread of its own.
struct Runs {
    compute: oneshot::Sender<()>,
    computes: oneshot::Receiver<()>,
    end: mpsc::Sender<()>,
}

impl Runs {
    /// Runs the tasks of `runtime`.
    fn start(runtime: Runtime) -> Self {
        let (compute, until) = oneshot::channel();
        let (stopped, computes) = oneshot::channel();
        let (end, ends) = mpsc::channel::<()>();
        thread::spawn(move || {
            let _ = runtime.block_on(until);
            let _ = stopped.send(());
            let _ = ends.recv();
        });
        Self { compute, computes, end }
    }

    /// Once it returns, no task of the runtime runs any more. The runtime ends when what it returns is
    /// dropped.
    async fn compute(self) -> mpsc::Sender<()> {
        self.compute.send(()).unwrap();
        self.computes.await.unwrap();
        self.end
    }
}
