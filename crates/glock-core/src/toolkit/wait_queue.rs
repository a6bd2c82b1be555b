//! `WaitQueue`: the queue of one client's waiters.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::{
    sync::{self, OwnedMutexGuard},
    time,
};

use super::mutex::Mutex;
use crate::LockId;

/// The queue of one client's waiters, one queue a lock.
///
/// Only the first waiter sends requests, so a release costs one try per client and not one per
/// waiter, and no waiter starves. It holds waiters and never lock state: two clients do not need to
/// share it. Clones share it.
#[derive(Clone, Default)]
pub struct WaitQueue {
    queues: Arc<Mutex<HashMap<LockId, Entry>>>,
}

impl WaitQueue {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until the caller is the first in the queue for `id`. It stays the first for as long as it
    /// keeps the [`QueuePermit`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future leaves the queue.
    pub async fn permit(&self, id: &LockId) -> QueuePermit {
        let (member, queue) = Member::join(self, id);
        // tokio's mutex is fair: it serves in the order of arrival, and `try_lock` fails while
        // another caller waits.
        let tried = Arc::clone(&queue).try_lock_owned();
        let (first, waited) = match tried {
            Ok(first) => (first, false),
            Err(_) => (queue.lock_owned().await, true),
        };
        member.is_first();
        QueuePermit { _first: first, _member: member, waited }
    }

    /// As [`permit`](Self::permit), but returns `None` once the first waiter has kept the others waiting for as long
    /// as `stuck_after`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future leaves the queue.
    pub async fn permit_unless_stuck(
        &self,
        id: &LockId,
        stuck_after: Duration,
    ) -> Option<QueuePermit> {
        let mut permit = pin!(self.permit(id));
        loop {
            let before = self.firsts(id);
            match time::timeout(stuck_after, &mut permit).await {
                Ok(permit) => return Some(permit),
                Err(_) if self.firsts(id) == before => return None,
                Err(_) => {}
            }
        }
    }

    /// How many were the first in this queue, since it was empty.
    fn firsts(&self, id: &LockId) -> u64 {
        self.queues().get(id).map_or(0, |entry| entry.firsts)
    }

    /// How many locks have a waiter.
    pub fn len(&self) -> usize {
        self.queues().len()
    }

    /// Whether no lock has a waiter.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<LockId, Entry>> {
        self.queues.lock()
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitQueue").field("queues", &self.len()).finish()
    }
}

/// The first place in a queue; dropping it makes the next waiter the first.
#[derive(Debug)]
#[must_use = "dropping a permit gives it to the next waiter"]
pub struct QueuePermit {
    // Before `_member`: the queue is passed on before it may be removed.
    _first: OwnedMutexGuard<()>,
    _member: Member,
    waited: bool,
}

impl QueuePermit {
    /// Whether another waiter was the first before, so that the lock is most likely taken.
    pub fn waited(&self) -> bool {
        self.waited
    }
}

/// Counts the members of a queue, so that the last one that leaves removes it.
#[derive(Debug)]
struct Member {
    queue: WaitQueue,
    id: LockId,
}

/// A queue, and how many members it has.
#[derive(Debug, Default)]
struct Entry {
    queue: Arc<sync::Mutex<()>>,
    members: usize,
    /// How many of them were the first.
    firsts: u64,
}

impl Member {
    fn join(queue: &WaitQueue, id: &LockId) -> (Self, Arc<sync::Mutex<()>>) {
        let mut queues = queue.queues();
        let entry = queues.entry(id.clone()).or_default();
        entry.members += 1;
        (Self { queue: queue.clone(), id: id.clone() }, Arc::clone(&entry.queue))
    }

    fn is_first(&self) {
        if let Some(entry) = self.queue.queues().get_mut(&self.id) {
            entry.firsts += 1;
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut queues = self.queue.queues();
        if let Some(entry) = queues.get_mut(&self.id) {
            entry.members -= 1;
            if entry.members == 0 {
                queues.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_gets_on_is_waited_for_and_one_that_is_stuck_is_not() {
        let (queue, id) = (WaitQueue::new(), LockId::new("x").unwrap());
        let stuck_after = Duration::from_secs(10);
        let first = queue.permit(&id).await;
        let others = (0..10).map(|_| {
            let (queue, id) = (queue.clone(), id.clone());
            tokio::spawn(async move {
                let _permit = queue.permit_unless_stuck(&id, stuck_after).await.expect("a permit");
                time::sleep(stuck_after / 2).await;
            })
        });
        let others: Vec<_> = others.collect();
        tokio::task::yield_now().await;
        drop(first);
        // Half a minute and more behind the others.
        let last = queue.permit_unless_stuck(&id, stuck_after).await;
        assert!(last.is_some());
        for other in others {
            other.await.unwrap();
        }
        let began = time::Instant::now();
        assert!(queue.permit_unless_stuck(&id, stuck_after).await.is_none());
        assert_eq!(began.elapsed(), stuck_after);
    }

    #[tokio::test]
    async fn waiters_are_served_in_the_order_in_which_they_came() {
        let (queue, id) = (WaitQueue::new(), LockId::new("x").unwrap());
        let served = Arc::new(Mutex::new(Vec::new()));
        let first = queue.permit(&id).await;
        assert!(!first.waited());
        let mut tasks = Vec::new();
        for n in 0..10 {
            let (queue, id, served) = (queue.clone(), id.clone(), Arc::clone(&served));
            tasks.push(tokio::spawn(async move {
                let permit = queue.permit(&id).await;
                assert!(permit.waited());
                served.lock().push(n);
            }));
            tokio::task::yield_now().await;
        }
        drop(first);
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*served.lock(), (0..10).collect::<Vec<_>>());
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_gives_up_leaves_the_queue() {
        let (queue, id) = (WaitQueue::new(), LockId::new("x").unwrap());
        let first = queue.permit(&id).await;
        for _ in 0..100 {
            assert!(
                tokio::time::timeout(Duration::from_millis(1), queue.permit(&id)).await.is_err()
            );
        }
        drop(first);
        assert!(queue.is_empty());
        assert!(!queue.permit(&id).await.waited());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn waiters_that_leave_at_once_leave_no_queue_behind() {
        let queue = WaitQueue::new();
        for n in 0..2_000 {
            let id = LockId::new(format!("x{n}")).unwrap();
            let members: Vec<_> = (0..3)
                .map(|_| {
                    let (queue, id) = (queue.clone(), id.clone());
                    tokio::spawn(async move { drop(queue.permit(&id).await) })
                })
                .collect();
            for member in members {
                member.await.unwrap();
            }
        }
        assert!(queue.is_empty(), "{queue:?}");
    }

    #[tokio::test]
    async fn locks_do_not_wait_for_each_other() {
        let queue = WaitQueue::new();
        let a = queue.permit(&LockId::new("a").unwrap()).await;
        let b = queue.permit(&LockId::new("b").unwrap()).await;
        assert!(!a.waited() && !b.waited());
        assert_eq!(queue.len(), 2);
    }
}
