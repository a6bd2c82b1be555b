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
    lines: Arc<Mutex<HashMap<LockId, Arc<Line<()>>>>>,
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
        let place = Place::take(self, id);
        // tokio's mutex is fair: it serves in the order of arrival, and `try_lock` fails while
        // somebody is in line.
        if let Ok(first) = Arc::clone(&place.line).try_lock_owned() {
            return Turn { _first: first, _place: place, queued: false };
        }
        let first = Arc::clone(&place.line).lock_owned().await;
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

    fn lines(&self) -> MutexGuard<'_, HashMap<LockId, Arc<Line<()>>>> {
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
    // Before `_place`: it holds a reference to the line, which the place counts when it goes.
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

#[derive(Debug)]
struct Place {
    queue: WaitQueue,
    id: LockId,
    line: Arc<Line<()>>,
}

impl Place {
    fn take(queue: &WaitQueue, id: &LockId) -> Self {
        let line = Arc::clone(queue.lines().entry(id.clone()).or_default());
        Self { queue: queue.clone(), id: id.clone(), line }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lines = self.queue.lines();
        // New references are only taken under the lock that is held here: two mean that this place
        // is the last one.
        if Arc::strong_count(&self.line) == 2 {
            lines.remove(&self.id);
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

    #[tokio::test]
    async fn locks_do_not_wait_for_each_other() {
        let queue = WaitQueue::new();
        let a = queue.turn(&LockId::new("a").unwrap()).await;
        let b = queue.turn(&LockId::new("b").unwrap()).await;
        assert!(!a.queued() && !b.queued());
        assert_eq!(queue.len(), 2);
    }
}
