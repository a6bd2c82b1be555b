//! `WaiterRegistry`: this client's waiters in the queues that the store keeps, and what each is to do.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    background_task::BackgroundTask,
    mutex::Mutex,
    waiters::{ClientId, LockStatus, LockWaiters, WaiterId},
};
use crate::{Action, BoxError, Fault, LockError, LockId};

/// This client's waiters in the queues that the store keeps. Clones share it.
///
/// The task that receives the store's notifications calls [`turn`](Self::turn), and
/// [`missed`](Self::missed) after an interruption, because it may have missed some.
#[derive(Clone)]
pub struct WaiterRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    client: ClientId,
    waiters: Mutex<Waiters>,
    /// Sends the heartbeats. Here, so that a notification that was missed ends its rest.
    heartbeats: BackgroundTask,
}

#[derive(Default)]
struct Waiters {
    by_lock: HashMap<LockId, OfLock>,
    by_number: HashMap<u64, Arc<Signal>>,
    /// The number of the last waiter.
    last: u64,
    /// Whether notifications may have been missed: then a heartbeat is due for all locks.
    missed: bool,
}

struct OfLock {
    /// When the last request for the lock was sent that keeps the client alive in its queue.
    seen: Instant,
    waiters: BTreeMap<u64, Arc<Signal>>,
}

/// What one waiter is to do.
#[derive(Default)]
pub(super) struct Signal {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Whether to send a claim now.
    claim: bool,
    /// When to send one if nothing happens before.
    free_at: Option<Instant>,
    failed: Option<Failed>,
}

/// A heartbeat that failed, as each waiter reports it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the heartbeat of this client's waiters failed: {text}")]
struct Failed {
    backend: &'static str,
    action: Action,
    fault: Fault,
    text: Arc<str>,
}

/// What wakes a waiter.
pub(super) enum Woken {
    /// It may be its turn, or it has lost its place.
    Claim,
    /// The store failed.
    Failed(LockError),
}

impl WaiterRegistry {
    /// No waiters, and a new name for the client.
    pub fn new() -> Self {
        let (waiters, heartbeats) = (Mutex::default(), BackgroundTask::new());
        Self { shared: Arc::new(Shared { client: ClientId::random(), waiters, heartbeats }) }
    }

    /// The client's name in the store.
    pub fn client(&self) -> ClientId {
        self.shared.client
    }

    /// The lock is reserved for the waiter with this number, if there is one. A waiter that is gone has sent
    /// that it left.
    pub fn turn(&self, number: impl Into<Option<u64>>) {
        let Some(number) = number.into() else { return };
        let signal = self.waiters().by_number.get(&number).cloned();
        if let Some(signal) = signal {
            signal.claim();
        }
    }

    /// Notifications may have been missed: a heartbeat finds out whose turn it is.
    pub fn missed(&self) {
        let mut waiters = self.waiters();
        waiters.missed = !waiters.by_number.is_empty();
        drop(waiters);
        self.shared.heartbeats.wake();
    }

    /// Whether this client has a waiter for `id`.
    pub fn has_waiters(&self, id: &LockId) -> bool {
        self.waiters().by_lock.contains_key(id)
    }

    /// Whether this client has a waiter with this number.
    pub fn has_waiter(&self, number: u64) -> bool {
        self.waiters().by_number.contains_key(&number)
    }

    /// Whether the store has put the waiter with this number into the queue of `id`.
    pub fn has_joined(&self, id: &LockId, number: u64) -> bool {
        let waiters = self.waiters();
        waiters.by_lock.get(id).is_some_and(|lock| lock.waiters.contains_key(&number))
    }

    /// How many waiters this client has.
    pub fn len(&self) -> usize {
        self.waiters().by_number.len()
    }

    /// Whether this client has no waiters.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn heartbeats(&self) -> &BackgroundTask {
        &self.shared.heartbeats
    }

    /// A new waiter for `id`, which is not in the queue yet.
    pub(super) fn register(&self, id: &LockId) -> RegisteredWaiter {
        let signal = Arc::<Signal>::default();
        let mut waiters = self.waiters();
        waiters.last += 1;
        let number = waiters.last;
        waiters.by_number.insert(number, Arc::clone(&signal));
        drop(waiters);
        let waiter = WaiterId { client: self.shared.client, number };
        RegisteredWaiter { registry: self.clone(), id: id.clone(), waiter, signal }
    }

    /// The locks for which no request was sent for so long; all of them if notifications may have been
    /// missed.
    pub(super) fn due(&self, unseen: Duration) -> Vec<LockWaiters> {
        let (client, now) = (self.shared.client, Instant::now());
        let mut waiters = self.waiters();
        let missed = std::mem::take(&mut waiters.missed);
        let due = waiters.by_lock.iter_mut();
        let due = due.filter(|(_, lock)| missed || now.duration_since(lock.seen) >= unseen);
        due.map(|(id, lock)| {
            lock.seen = now;
            LockWaiters { id: id.clone(), client, numbers: lock.waiters.keys().copied().collect() }
        })
        .collect()
    }

    /// Notifies the waiters of what a heartbeat found.
    pub(super) fn apply(&self, status: &LockStatus) {
        let waiters = self.waiters();
        for number in status.turn.iter().chain(&status.lost) {
            if let Some(signal) = waiters.by_number.get(number) {
                signal.claim();
            }
        }
        if let Some((number, free_in)) = status.first
            && let Some(signal) = waiters.by_number.get(&number)
        {
            signal.free_in(Some(free_in));
        }
    }

    /// Notifies the waiters that a heartbeat failed.
    pub(super) fn failed(&self, locks: &[LockWaiters], err: &LockError) {
        let LockError::Backend { backend, action, fault, source } = err else { return };
        let (backend, action, fault) = (*backend, *action, *fault);
        let failed = Failed { backend, action, fault, text: source.to_string().into() };
        let waiters = self.waiters();
        for number in locks.iter().flat_map(|lock| &lock.numbers) {
            if let Some(signal) = waiters.by_number.get(number) {
                signal.state.lock().failed = Some(failed.clone());
                signal.changed.notify_one();
            }
        }
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.shared.waiters.lock()
    }
}

impl Default for WaiterRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaiterRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaiterRegistry").field("waiters", &self.len()).finish_non_exhaustive()
    }
}

impl Signal {
    /// Has the waiter send a claim.
    pub(super) fn claim(&self) {
        self.state.lock().claim = true;
        self.changed.notify_one();
    }

    /// Has it send one after this time, if nothing happens before. `None`: it is notified.
    pub(super) fn free_in(&self, free_in: Option<Duration>) {
        self.state.lock().free_at = free_in.and_then(|left| Instant::now().checked_add(left));
        self.changed.notify_one();
    }

    /// Returns what there is to do, or until when there is nothing to do.
    pub(super) fn take(&self) -> Result<Woken, Option<Instant>> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.claim) || state.free_at.is_some_and(|at| at <= Instant::now())
        {
            state.free_at = None;
            return Ok(Woken::Claim);
        }
        match state.failed.take() {
            Some(failed) => Ok(Woken::Failed(failed.into())),
            None => Err(state.free_at),
        }
    }

    /// Returns once there may be something to do.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl From<Failed> for LockError {
    fn from(failed: Failed) -> Self {
        let Failed { backend, action, fault, .. } = failed;
        Self::Backend { backend, action, fault, source: BoxError::from(failed) }
    }
}

/// A waiter of this client, until it is dropped.
pub(super) struct RegisteredWaiter {
    registry: WaiterRegistry,
    pub(super) id: LockId,
    pub(super) waiter: WaiterId,
    pub(super) signal: Arc<Signal>,
}

impl RegisteredWaiter {
    /// The store has put it into the queue, by a request that was sent at `sent_at`. From now on,
    /// heartbeats keep its place.
    pub(super) fn joined(&self, sent_at: Instant) {
        let mut waiters = self.registry.waiters();
        let of_lock = waiters.by_lock.entry(self.id.clone());
        let of_lock = of_lock.or_insert_with(|| OfLock { seen: sent_at, waiters: BTreeMap::new() });
        of_lock.seen = sent_at;
        of_lock.waiters.insert(self.waiter.number, Arc::clone(&self.signal));
    }
}

impl Drop for RegisteredWaiter {
    fn drop(&mut self) {
        let mut waiters = self.registry.waiters();
        waiters.by_number.remove(&self.waiter.number);
        if let Some(of_lock) = waiters.by_lock.get_mut(&self.id) {
            of_lock.waiters.remove(&self.waiter.number);
            if of_lock.waiters.is_empty() {
                waiters.by_lock.remove(&self.id);
            }
        }
    }
}
