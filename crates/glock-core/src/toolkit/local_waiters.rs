//! `LocalWaiters`: which entries of the store's queues belong to this client.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::mutex::Mutex;

/// Which entries of the store's queues belong to this client. Clones share it.
///
/// A waiter whose predecessor belongs to the same client learns here that the predecessor is gone,
/// and sets up no watch in the store. So a client has one watch a lock, however many of its tasks
/// wait. It saves messages and decides nothing: a waiter whose predecessor is gone still sends its
/// request to the store, and one that hears nothing sets up a watch.
#[derive(Clone, Default)]
pub struct LocalWaiters {
    queues: Arc<Mutex<Queues>>,
}

#[derive(Default)]
struct Queues {
    by_name: HashMap<String, HashMap<String, Entry>>,
    /// How many entries in all.
    len: usize,
    /// How many entries there may be before old ones without a successor are removed.
    sweep_at: usize,
}

struct Entry {
    gone: watch::Sender<bool>,
    since: Instant,
    /// Whether a [`LocalWaiter`] removes it.
    guarded: bool,
}

/// An entry without a guard that is older may be that of a lease that was dropped.
const KEPT: Duration = Duration::from_mins(1);
const SWEEP_AT_MIN: usize = 256;

impl LocalWaiters {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that this client has the entry `name` in `queue`. An earlier one of the same name is
    /// replaced.
    pub fn enter(&self, queue: &str, name: &str) -> LocalWaiter {
        self.queues().insert(queue, name);
        LocalWaiter {
            waiters: self.clone(),
            queue: queue.into(),
            name: name.into(),
            in_doubt: true,
        }
    }

    /// Notes that the store has confirmed the end of an entry, and wakes its successor.
    pub fn left(&self, queue: &str, name: &str) {
        if let Some(entry) = self.queues().remove(queue, name) {
            entry.gone.send_replace(true);
        }
    }

    /// The entry `name` of `queue`, if it is this client's.
    pub fn predecessor(&self, queue: &str, name: &str) -> Option<LocalPredecessor> {
        let queues = self.queues();
        let entry = queues.by_name.get(queue)?.get(name)?;
        Some(LocalPredecessor(entry.gone.subscribe()))
    }

    /// How many entries this client has in `queue`.
    pub fn count(&self, queue: &str) -> usize {
        self.queues().by_name.get(queue).map_or(0, HashMap::len)
    }

    /// How many entries this client has in all queues.
    pub fn len(&self) -> usize {
        self.queues().len
    }

    /// Whether this client has no entry in any queue.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock()
    }
}

impl Queues {
    fn insert(&mut self, queue: &str, name: &str) {
        if self.len >= self.sweep_at {
            self.sweep();
        }
        let entry = Entry { gone: watch::Sender::new(false), since: Instant::now(), guarded: true };
        let entries = match self.by_name.get_mut(queue) {
            Some(entries) => entries,
            None => self.by_name.entry(queue.into()).or_default(),
        };
        if entries.insert(name.into(), entry).is_none() {
            self.len += 1;
        }
    }

    fn remove(&mut self, queue: &str, name: &str) -> Option<Entry> {
        let entries = self.by_name.get_mut(queue)?;
        let entry = entries.remove(name)?;
        if entries.is_empty() {
            self.by_name.remove(queue);
        }
        self.len -= 1;
        Some(entry)
    }

    fn sweep(&mut self) {
        self.by_name.retain(|_, entries| {
            entries.retain(|_, entry| {
                entry.guarded || entry.gone.receiver_count() > 0 || entry.since.elapsed() < KEPT
            });
            !entries.is_empty()
        });
        self.len = self.by_name.values().map(HashMap::len).sum();
        self.sweep_at = SWEEP_AT_MIN.max(self.len * 2);
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
pub struct LocalWaiter {
    waiters: LocalWaiters,
    queue: String,
    name: String,
    in_doubt: bool,
}

impl LocalWaiter {
    /// The store has confirmed that the entry is gone.
    pub fn left(mut self) {
        self.in_doubt = false;
        self.waiters.left(&self.queue, &self.name);
    }

    /// The entry stays, as that of a hold: [`LocalWaiters::left`] ends it.
    pub fn became_hold(mut self) {
        self.in_doubt = false;
        let mut queues = self.waiters.queues();
        if let Some(entry) =
            queues.by_name.get_mut(&self.queue).and_then(|entries| entries.get_mut(&self.name))
        {
            entry.guarded = false;
        }
    }
}

impl Drop for LocalWaiter {
    fn drop(&mut self) {
        if self.in_doubt {
            self.waiters.queues().remove(&self.queue, &self.name);
        }
    }
}

/// An entry of this client that is before another of its waiters.
#[derive(Debug)]
pub struct LocalPredecessor(watch::Receiver<bool>);

impl LocalPredecessor {
    /// Returns `true` once the store has confirmed that the entry is gone, `false` if its fate is
    /// unknown: then only a watch in the store can show it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn gone(&mut self) -> bool {
        self.0.wait_for(|gone| *gone).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

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
        assert!(waiters.is_empty() && waiters.predecessor("q", "a").is_none());
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
