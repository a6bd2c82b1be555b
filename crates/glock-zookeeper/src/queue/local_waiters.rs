//! `LocalWaiters`: which places in line are this client's own, so that nobody needs to watch them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// Which places in line are this client's own.
///
/// Who stands behind one of them hears here that it is gone. So a client has one watch for each
/// lock that it waits for, however many of its tasks do: the driver cannot set up more than 128 KiB
/// of watched paths again after it has lost a connection.
#[derive(Clone, Default)]
pub(crate) struct LocalWaiters {
    queues: Arc<Mutex<HashMap<String, HashMap<String, Gone>>>>,
}

/// Becomes true once the place is gone; is closed if nobody knows.
type Gone = watch::Receiver<bool>;

impl LocalWaiters {
    /// Enters the place that is called `name`.
    pub(crate) fn enter(&self, queue: String, name: String) -> Standing {
        let (gone, place) = watch::channel(false);
        self.queues().entry(queue.clone()).or_default().insert(name.clone(), place);
        Standing { local_waiters: self.clone(), queue, name, gone }
    }

    /// How many places are in this queue.
    pub(crate) fn count(&self, queue: &str) -> usize {
        self.queues().get(queue).map_or(0, HashMap::len)
    }

    /// The place that is called `name`, if it is this client's.
    pub(crate) fn get(&self, queue: &str, name: &str) -> Option<Gone> {
        self.queues().get(queue)?.get(name).cloned()
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Gone>>> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is in line. Dropped, it may be or not.
pub(crate) struct Standing {
    local_waiters: LocalWaiters,
    queue: String,
    name: String,
    gone: watch::Sender<bool>,
}

impl Standing {
    /// The servers do not have it any more.
    pub(crate) fn left(self) {
        self.gone.send_replace(true);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        let mut queues = self.local_waiters.queues();
        if let Some(queue) = queues.get_mut(&self.queue) {
            queue.remove(&self.name);
            if queue.is_empty() {
                queues.remove(&self.queue);
            }
        }
    }
}

/// Waits until a place is gone; false if it may still be there.
pub(crate) async fn gone(mut place: Gone) -> bool {
    place.wait_for(|gone| *gone).await.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_known_until_it_is_left_and_forgotten_if_nobody_knows() {
        let local_waiters = LocalWaiters::default();
        let left = local_waiters.enter("q".into(), "a".into());
        let lost = local_waiters.enter("q".into(), "b".into());
        assert_eq!((local_waiters.count("q"), local_waiters.count("p")), (2, 0));
        let (first, second) =
            (local_waiters.get("q", "a").unwrap(), local_waiters.get("q", "b").unwrap());
        left.left();
        drop(lost);
        assert!(gone(first).await && !gone(second).await);
        assert!(local_waiters.queues().is_empty() && local_waiters.get("q", "a").is_none());
    }
}
