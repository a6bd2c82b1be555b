//! `WaitQueue`: the line in which one client's waiters stand.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as Line, OwnedMutexGuard};

use crate::LockId;

/// The line in which one client's waiters stand, one line a lock.
///
/// Only the first in line asks the store, so a release costs one try per client and not one per
/// waiter, and nobody in line starves. It holds waiters and never lock state: two clients do not
/// need to share it. Clones share it.
#[derive(Clone, Default)]
pub struct WaitQueue {
    lines: Arc<Mutex<HashMap<LockId, Entry>>>,
}

impl WaitQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until the caller is the first in line for `id`, and for as long as it keeps the
    /// [`Turn`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future gives up the place.
    pub async fn turn(&self, id: &LockId) -> Turn {
        let (place, line) = Place::take(self, id);
        // tokio's mutex is fair: it serves in the order of arrival, and `try_lock` fails while
        // somebody is in line.
        if let Ok(first) = Arc::clone(&line).try_lock_owned() {
            return Turn { _first: first, _place: place, queued: false };
        }
        let first = line.lock_owned().await;
        Turn { _first: first, _place: place, queued: true }
    }

    /// How many locks somebody is in line for.
    pub fn len(&self) -> usize {
        self.lines().len()
    }

    /// Whether nobody is in line.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<LockId, Entry>> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitQueue").field("lines", &self.len()).finish()
    }
}

/// The first place in line; dropping it makes way for the next.
#[derive(Debug)]
#[must_use = "dropping a turn gives it to the next in line"]
pub struct Turn {
    // Before `_place`: the line is passed on before it may be taken away.
    _first: OwnedMutexGuard<()>,
    _place: Place,
    queued: bool,
}

impl Turn {
    /// Whether somebody was in line before, so that the lock is most likely taken.
    pub fn queued(&self) -> bool {
        self.queued
    }
}

/// Counts who stands in a line, so that the last one who leaves takes the line away.
#[derive(Debug)]
struct Place {
    queue: WaitQueue,
    id: LockId,
}

/// A line, and how many places there are in it.
#[derive(Debug, Default)]
struct Entry {
    line: Arc<Line<()>>,
    places: usize,
}

impl Place {
    fn take(queue: &WaitQueue, id: &LockId) -> (Self, Arc<Line<()>>) {
        let mut lines = queue.lines();
        let entry = lines.entry(id.clone()).or_default();
        entry.places += 1;
        (Self { queue: queue.clone(), id: id.clone() }, Arc::clone(&entry.line))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.queue.lines();
        if let Some(entry) = lines.get_mut(&self.id) {
            entry.places -= 1;
            if entry.places == 0 {
                lines.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn waiters_are_served_in_the_order_in_which_they_came() {
        let (queue, id) = (WaitQueue::new(), LockId::new("x").unwrap());
        let served = Arc::new(Mutex::new(Vec::new()));
        let first = queue.turn(&id).await;
        assert!(!first.queued());
        let mut tasks = Vec::new();
        for n in 0..10 {
            let (queue, id, served) = (queue.clone(), id.clone(), Arc::clone(&served));
            tasks.push(tokio::spawn(async move {
                let turn = queue.turn(&id).await;
                assert!(turn.queued());
                served.lock().unwrap().push(n);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*served.lock().unwrap(), (0..10).collect::<Vec<_>>());
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_leaves_no_place_behind() {
        let (queue, id) = (WaitQueue::new(), LockId::new("x").unwrap());
        let first = queue.turn(&id).await;
        for _ in 0..100 {
            assert!(tokio::time::timeout(Duration::from_millis(1), queue.turn(&id)).await.is_err());
        }
        drop(first);
        assert!(queue.is_empty());
        assert!(!queue.turn(&id).await.queued());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn waiters_that_leave_at_once_leave_no_line_behind() {
        let queue = WaitQueue::new();
        for n in 0..2_000 {
            let id = LockId::new(format!("x{n}")).unwrap();
            let places: Vec<_> = (0..3)
                .map(|_| {
                    let (queue, id) = (queue.clone(), id.clone());
                    tokio::spawn(async move { drop(queue.turn(&id).await) })
                })
                .collect();
            for place in places {
                place.await.unwrap();
            }
        }
        assert!(queue.is_empty(), "{queue:?}");
    }

    #[tokio::test]
    async fn locks_do_not_wait_for_each_other() {
        let queue = WaitQueue::new();
        let a = queue.turn(&LockId::new("a").unwrap()).await;
        let b = queue.turn(&LockId::new("b").unwrap()).await;
        assert!(!a.queued() && !b.queued());
        assert_eq!(queue.len(), 2);
    }
}
