//! `QueuedWaiters`: this client's waiters in the queues, and by which right each may take its lock.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use glock_core::toolkit::{Mutex, WaiterRegistry};

use crate::{
    queue::{claim::Claim, place::Place},
    schema::Entry,
};

/// This client's waiters in the queues, and by which right each may take its lock.
pub(crate) struct QueuedWaiters {
    pub(crate) registry: WaiterRegistry,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that may have a place, by their numbers.
    placed: HashSet<u64>,
    /// By the waiters' numbers.
    claims: HashMap<u64, Claim>,
    /// Those that are the first in the queues of their locks, by the keys of the locks.
    firsts: HashMap<String, First>,
}

/// A waiter that is the first in the queue of its lock.
struct First {
    number: u64,
    place: Place,
}

impl QueuedWaiters {
    pub(crate) fn new() -> Self {
        Self { registry: WaiterRegistry::new(), state: Mutex::default() }
    }

    /// Wakes a waiter, which may take its lock by this right. Returns `false` if it is gone.
    pub(crate) fn turn(&self, number: u64, claim: Claim) -> bool {
        let is_there = self.registry.has_waiter(number);
        if is_there {
            self.state.lock().claims.insert(number, claim);
            self.registry.turn(number);
        }
        is_there
    }

    /// By which right this waiter may take its lock now.
    pub(crate) fn take_claim(&self, number: u64) -> Option<Claim> {
        self.state.lock().claims.remove(&number)
    }

    /// The waiter is about to be put into its queue.
    pub(crate) fn joins(&self, number: u64) {
        self.state.lock().placed.insert(number);
    }

    /// Whether the waiter may have a place, or a lock may be reserved for it.
    pub(crate) fn may_have_place(&self, number: u64) -> bool {
        self.state.lock().placed.contains(&number)
    }

    /// Waits for the end of the hold at `key`, for the waiter with this place.
    pub(crate) fn is_first(&self, key: &str, place: &Place) {
        let Some(number) = self.own(&place.waiter) else { return };
        let first = First { number, place: place.clone() };
        self.state.lock().firsts.insert(key.into(), first);
    }

    /// The waiter has its lock, or left.
    pub(crate) fn gone(&self, key: &str, number: u64) {
        let mut state = self.state.lock();
        state.claims.remove(&number);
        state.placed.remove(&number);
        if state.firsts.get(key).is_some_and(|first| first.number == number) {
            state.firsts.remove(key);
        }
    }

    /// Whether one of these waiters is the first in its queue.
    pub(crate) fn has_first(&self) -> bool {
        self.state.lock().firsts.values().any(|first| self.registry.has_waiter(first.number))
    }

    /// The keys of the locks that have one of these waiters first in their queues.
    pub(crate) fn awaited(&self) -> HashSet<String> {
        let mut state = self.state.lock();
        state.firsts.retain(|_, first| self.registry.has_waiter(first.number));
        state.claims.retain(|number, _| self.registry.has_waiter(*number));
        state.firsts.keys().cloned().collect()
    }

    /// Wakes the waiter that is the first for the lock at `key`, if it may take it now. Returns whether it
    /// may.
    pub(crate) fn see(&self, key: &str, entry: Option<&Entry>) -> bool {
        let mut state = self.state.lock();
        let Some(first) = state.firsts.get(key) else { return false };
        let claim = match entry.filter(|entry| entry.is_locked()) {
            None => Claim::First(first.place.clone()),
            Some(entry) => match entry.reservation() {
                Some((waiter, by)) if waiter == first.place.waiter => {
                    Claim::Reserved { by, next: Vec::new() }
                }
                // A snapshot that is older than the place does not show that it is not the first.
                _ => return false,
            },
        };
        let number = first.number;
        state.firsts.remove(key);
        drop(state);
        self.turn(number, claim)
    }

    /// The number of the waiter of this name, if it is this client's.
    pub(crate) fn own(&self, waiter: &str) -> Option<u64> {
        self.registry.client().number_of(waiter)
    }
}

impl fmt::Debug for QueuedWaiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedWaiters").field("registry", &self.registry).finish_non_exhaustive()
    }
}
