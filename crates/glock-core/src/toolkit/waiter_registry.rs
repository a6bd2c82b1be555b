//! `WaiterRegistry`: this client's waiters in the queues that the store keeps, and what each is to do.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    background_task::BackgroundTask,
    mutex::Mutex,
    waiter_signal::{Failed, Signal},
    waiters::{ClientId, LockStatus, LockWaiters, WaiterId},
};
use crate::{LockError, LockId};

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
    /// When a heartbeat last looked whether all of its waiters have their places.
    looked: Instant,
    waiters: BTreeMap<u64, Arc<Signal>>,
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

    /// The waiter with this number sends its next request after so long, unless it is notified before.
    pub fn wake_in(&self, number: u64, pause: Duration) {
        if let Some(signal) = self.waiters().by_number.get(&number) {
            signal.free_in(Some(pause));
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

    /// The locks for which no request was sent for so long, or no heartbeat for so long; all of them if
    /// notifications may have been missed.
    pub(super) fn due(&self, unseen: Duration, unlooked: Duration) -> Vec<LockWaiters> {
        let (client, now) = (self.shared.client, Instant::now());
        let mut waiters = self.waiters();
        let missed = std::mem::take(&mut waiters.missed);
        let is_due = |lock: &OfLock| {
            now.duration_since(lock.seen) >= unseen || now.duration_since(lock.looked) >= unlooked
        };
        let due = waiters.by_lock.iter_mut().filter(|(_, lock)| missed || is_due(lock));
        due.map(|(id, lock)| {
            (lock.seen, lock.looked) = (now, now);
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
        drop(waiters);
        if let Some((number, free_in)) = status.first {
            self.wake_in(number, free_in);
        }
    }

    /// Notifies the waiters that a heartbeat failed.
    pub(super) fn failed(&self, locks: &[LockWaiters], err: &LockError) {
        let Some(failed) = Failed::of(err) else { return };
        let waiters = self.waiters();
        for number in locks.iter().flat_map(|lock| &lock.numbers) {
            if let Some(signal) = waiters.by_number.get(number) {
                signal.fail(failed.clone());
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
        let new = || OfLock { seen: sent_at, looked: sent_at, waiters: BTreeMap::new() };
        let of_lock = of_lock.or_insert_with(new);
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
