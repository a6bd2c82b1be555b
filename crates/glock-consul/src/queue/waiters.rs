//! `QueuedWaiters`: this client's waiters in the queues, and by which right each may take its lock.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::Duration,
};

use glock_core::toolkit::{Mutex, WaiterRegistry};

use crate::{
    queue::{claim::Claim, grant::Grant, place::Place},
    schema::Entry,
};

/// This client's waiters in the queues, and by which right each may take its lock.
pub(crate) struct QueuedWaiters {
    pub(crate) registry: WaiterRegistry,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The TTLs of those that may have a place, by their numbers.
    placed: HashMap<u64, Duration>,
    /// By the waiters' numbers.
    claims: HashMap<u64, Claim>,
    /// Locks that were taken for waiters, by the waiters' numbers.
    grants: HashMap<u64, Grant>,
    /// The waiters for which a request is under way that takes their lock.
    granting: HashSet<u64>,
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

    /// The waiter, which wants a lease of `ttl`, is about to be put into its queue.
    pub(crate) fn joins(&self, number: u64, ttl: Duration) {
        self.state.lock().placed.insert(number, ttl);
    }

    /// Whether the waiter may have a place, or a lock may be reserved for it.
    pub(crate) fn may_have_place(&self, number: u64) -> bool {
        self.state.lock().placed.contains_key(&number)
    }

    /// The number of the waiter with this place, if it is this client's, is there, and wants a lease of `ttl`.
    pub(crate) fn own_of(&self, place: &Place, ttl: Duration) -> Option<u64> {
        let number = self.own(&place.waiter).filter(|&own| self.registry.has_waiter(own))?;
        (self.state.lock().placed.get(&number) == Some(&ttl)).then_some(number)
    }

    /// A request is about to be sent that takes a lock for this waiter. Until that has ended, a look shows neither its
    /// place nor its lock.
    pub(crate) fn granting(&self, number: u64) -> Granting<'_> {
        self.state.lock().granting.insert(number);
        Granting { waiters: self, number }
    }

    pub(crate) fn is_being_granted(&self, number: u64) -> bool {
        let state = self.state.lock();
        state.granting.contains(&number) || state.grants.contains_key(&number)
    }

    /// Wakes a waiter, which has its lock. Returns the grant if the waiter has left.
    pub(crate) fn grant(&self, number: u64, grant: Grant) -> Option<Grant> {
        let mut state = self.state.lock();
        if !state.placed.contains_key(&number) {
            return Some(grant);
        }
        let before = state.grants.insert(number, grant);
        drop(state);
        self.registry.turn(number);
        before
    }

    /// The lock that was taken for this waiter.
    pub(crate) fn take_grant(&self, number: u64) -> Option<Grant> {
        self.state.lock().grants.remove(&number)
    }

    /// Takes out the locks that were taken for waiters that do not come for them.
    pub(crate) fn untaken_grants(&self) -> Vec<Grant> {
        let mut state = self.state.lock();
        let untaken = state.grants.extract_if(|_, grant| grant.left().is_zero());
        untaken.map(|(_, grant)| grant).collect()
    }

    /// In how long the next of them is to pass on.
    pub(crate) fn untaken_for(&self) -> Option<Duration> {
        self.state.lock().grants.values().map(Grant::left).min()
    }

    /// Waits for the end of the hold at `key`, for the waiter with this place.
    pub(crate) fn is_first(&self, key: &str, place: &Place) {
        let Some(number) = self.own(&place.waiter) else { return };
        let first = First { number, place: place.clone() };
        self.state.lock().firsts.insert(key.into(), first);
    }

    /// The waiter has its lock, or left. Returns the lock that was taken for it.
    pub(crate) fn gone(&self, key: &str, number: u64) -> Option<Grant> {
        let mut state = self.state.lock();
        state.claims.remove(&number);
        state.placed.remove(&number);
        let untaken = state.grants.remove(&number);
        if state.firsts.get(key).is_some_and(|first| first.number == number) {
            state.firsts.remove(key);
        }
        untaken
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

/// A request is under way that takes a lock for a waiter.
pub(crate) struct Granting<'a> {
    waiters: &'a QueuedWaiters,
    pub(crate) number: u64,
}

/// Wakes the waiter: what it was woken for meanwhile, it did not look at.
impl Drop for Granting<'_> {
    fn drop(&mut self) {
        self.waiters.state.lock().granting.remove(&self.number);
        self.waiters.registry.turn(self.number);
    }
}

impl fmt::Debug for QueuedWaiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedWaiters").field("registry", &self.registry).finish_non_exhaustive()
    }
}
