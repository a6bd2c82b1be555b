//! `LocalWaiters`: which entries of the store's queues belong to this client.

use std::{
    fmt,
    sync::{Arc, MutexGuard},
};

use tokio::sync::watch;

use super::{
    local_queues::{Entry, Fate, LocalQueues},
    mutex::Mutex,
};

/// Which entries of the store's queues belong to this client. Clones share it.
///
/// A waiter whose predecessor belongs to the same client learns here that the predecessor is gone,
/// and sets up no watch in the store. So a client has one watch a lock, however many of its tasks
/// wait. It saves messages: a waiter whose predecessor is gone still sends its request to the store, and one
/// that hears nothing sets up a watch. It may also learn that its predecessor was served, so that it is the
/// first.
#[derive(Clone, Default)]
pub struct LocalWaiters {
    queues: Arc<Mutex<LocalQueues>>,
}

impl LocalWaiters {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that this client has the entry `name` in `queue`. An earlier one of the same name is
    /// replaced: its successor then sets up a watch, and its [`LocalWaiter`] changes nothing any more.
    pub fn enter(&self, queue: &str, name: &str) -> LocalWaiter {
        let (number, replaced) = self.queues().insert(queue, name);
        // Outside of the mutex, because it wakes a successor.
        drop(replaced);
        LocalWaiter { waiters: self.clone(), queue: queue.into(), name: name.into(), number }
    }

    /// Notes that the store has confirmed the end of an entry, and wakes its successor.
    pub fn left(&self, queue: &str, name: &str) {
        let entry = self.queues().remove(queue, name);
        if let Some(entry) = entry {
            entry.fate.send_replace(Fate::Left);
        }
    }

    /// This client's waiter in `queue` that was entered last, and its name, unless it
    /// [is about to have its turn](LocalWaiter::takes_its_turn). So its entry is in the store's queue at least
    /// for as long as this returns it.
    pub fn newest(&self, queue: &str) -> Option<(String, LocalPredecessor)> {
        let queues = self.queues();
        let queue = queues.by_name.get(queue)?;
        let name = queue.newest.as_ref()?;
        Some((name.clone(), LocalPredecessor::of(queue.entries.get(name)?)))
    }

    /// The entry `name` of `queue`, if it is this client's.
    pub fn predecessor(&self, queue: &str, name: &str) -> Option<LocalPredecessor> {
        self.queues().by_name.get(queue)?.entries.get(name).map(LocalPredecessor::of)
    }

    /// How many of this client's waiters are in `queue`. Holds do not count.
    pub fn count(&self, queue: &str) -> usize {
        self.queues().by_name.get(queue).map_or(0, |queue| queue.waiters)
    }

    /// How many entries this client has in all queues, waiters and holds.
    pub fn len(&self) -> usize {
        self.queues().len
    }

    /// Whether this client has no entry in any queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn queues(&self) -> MutexGuard<'_, LocalQueues> {
        self.queues.lock()
    }
}

impl fmt::Debug for LocalWaiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalWaiters").field("entries", &self.len()).finish()
    }
}

/// This client's entry in a queue of the store. Dropped while its fate is unknown, it wakes its
/// successor to set up a watch.
#[derive(Debug)]
#[must_use = "dropping it forgets the entry; keep it until the store's entry is gone"]
pub struct LocalWaiter {
    waiters: LocalWaiters,
    queue: String,
    name: String,
    number: u64,
}

impl LocalWaiter {
    /// The store has confirmed that the entry is gone.
    pub fn left(self) {
        self.end(Fate::Left);
    }

    /// A request is about to be sent that may take the entry out of the store's queue, and delete the queue: those
    /// who join from now on may be in another one.
    pub fn takes_its_turn(&self) {
        self.waiters.queues().not_newest(&self.queue, &self.name);
    }

    /// The store has granted this waiter the lock, as the first in its queue, and deleted the entry: the one behind
    /// it is the first now.
    pub fn served(self) {
        self.end(Fate::Served);
    }

    /// The entry stays, as that of a hold: [`LocalWaiters::left`] ends it.
    pub fn became_hold(self) {
        let Self { queue, name, number, .. } = &self;
        let mut queues = self.waiters.queues();
        if let Some((entry, waiters)) = queues.of_waiter(queue, name, *number) {
            entry.waiter = None;
            *waiters -= 1;
            queues.not_newest(queue, name);
        }
    }

    fn end(self, fate: Fate) {
        if let Some(entry) = self.remove() {
            entry.fate.send_replace(fate);
        }
    }

    fn remove(&self) -> Option<Entry> {
        let mut queues = self.waiters.queues();
        queues.of_waiter(&self.queue, &self.name, self.number)?;
        queues.remove(&self.queue, &self.name)
    }
}

impl Drop for LocalWaiter {
    fn drop(&mut self) {
        self.remove();
    }
}

/// An entry of this client that is before another of its waiters.
#[derive(Debug)]
pub struct LocalPredecessor(watch::Receiver<Fate>);

impl LocalPredecessor {
    fn of(entry: &Entry) -> Self {
        Self(entry.fate.subscribe())
    }

    /// Returns `true` once the store has confirmed that the entry is gone, `false` if its fate is
    /// unknown: then only a watch in the store can show it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn gone(&mut self) -> bool {
        self.0.wait_for(|fate| *fate != Fate::There).await.is_ok()
    }

    /// Whether it is gone because it had its turn: it was the first in its queue.
    pub fn was_served(&self) -> bool {
        *self.0.borrow() == Fate::Served
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{advance, timeout};

    use super::*;
    use crate::toolkit::local_queues::{KEPT, SWEEP_AT_MIN};

    #[tokio::test]
    async fn an_entry_is_known_until_it_is_left_and_forgotten_if_its_fate_is_unknown() {
        let waiters = LocalWaiters::new();
        let left = waiters.enter("q", "a");
        let dropped = waiters.enter("q", "b");
        assert_eq!((waiters.count("q"), waiters.count("p"), waiters.len()), (2, 0, 2));
        let mut first = waiters.predecessor("q", "a").unwrap();
        let mut second = waiters.predecessor("q", "b").unwrap();
        left.left();
        drop(dropped);
        assert!(first.gone().await && !second.gone().await);
        assert!(!first.was_served() && !second.was_served());
        assert!(waiters.is_empty() && waiters.predecessor("q", "a").is_none());
    }

    #[tokio::test]
    async fn a_successor_learns_that_the_one_before_it_was_served() {
        let waiters = LocalWaiters::new();
        let newest = || waiters.newest("q").map(|(name, _)| name);
        assert_eq!(newest(), None);
        let (first, second) = (waiters.enter("q", "a"), waiters.enter("q", "b"));
        assert_eq!(newest().as_deref(), Some("b"));
        let mut before = waiters.predecessor("q", "a").unwrap();
        first.takes_its_turn();
        assert_eq!(newest().as_deref(), Some("b"));
        second.takes_its_turn();
        assert_eq!(newest(), None);
        assert!(!before.was_served());
        first.served();
        assert!(before.gone().await && before.was_served());
        second.left();
        let _third = waiters.enter("p", "c");
        assert_eq!(newest(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_entry_that_became_a_hold_stays_until_the_hold_is_over() {
        let waiters = LocalWaiters::new();
        waiters.enter("q", "a").became_hold();
        let mut before = waiters.predecessor("q", "a").unwrap();
        assert!(timeout(KEPT, before.gone()).await.is_err());
        waiters.left("q", "a");
        assert!(before.gone().await);
        assert!(waiters.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_ends_its_own_entry_and_not_one_that_has_replaced_it() {
        let waiters = LocalWaiters::new();
        let [left, dropped, held] = ["a", "b", "c"].map(|name| waiters.enter("q", name));
        let mut behind_replaced = waiters.predecessor("q", "a").unwrap();
        let replacing = ["a", "b", "c"].map(|name| waiters.enter("q", name));
        assert!(!behind_replaced.gone().await, "its successor sets up a watch");
        let mut behind = waiters.predecessor("q", "a").unwrap();
        left.left();
        drop(dropped);
        held.became_hold();
        assert!(timeout(KEPT, behind.gone()).await.is_err());
        assert_eq!((waiters.count("q"), waiters.len()), (3, 3));
        replacing.into_iter().for_each(LocalWaiter::left);
        assert!(behind.gone().await && waiters.is_empty());
    }

    #[tokio::test]
    async fn a_hold_is_an_entry_and_no_waiter() {
        let waiters = LocalWaiters::new();
        waiters.enter("q", "a").became_hold();
        let behind = waiters.enter("q", "b");
        assert_eq!((waiters.count("q"), waiters.len()), (1, 2));
        behind.left();
        assert_eq!((waiters.count("q"), waiters.len()), (0, 1));
        drop(waiters.enter("q", "a"));
        assert!(waiters.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn holds_whose_end_stays_unknown_do_not_pile_up() {
        let waiters = LocalWaiters::new();
        let mut most = 0;
        for n in 0..100 * SWEEP_AT_MIN {
            waiters.enter("q", &format!("{n}")).became_hold();
            most = most.max(waiters.len());
            advance(Duration::from_millis(300)).await;
        }
        assert!(most <= 4 * SWEEP_AT_MIN, "{most}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_is_never_swept() {
        let waiters = LocalWaiters::new();
        let oldest = waiters.enter("q", "oldest");
        for n in 0..4 * SWEEP_AT_MIN {
            waiters.enter("p", &format!("{n}")).became_hold();
            advance(KEPT).await;
        }
        assert!(waiters.predecessor("q", "oldest").is_some());
        drop(oldest);
    }
}
