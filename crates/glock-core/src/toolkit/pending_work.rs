//! `PendingWork`: counts the releases and undos that a client has under way in the background.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::Notify, time};

/// Counts the releases and undos that a client has under way, so that a program that ends can wait for
/// them ([`LockExt::drain`](crate::LockExt::drain)). Clones share it: a store's crate has one for each
/// client, gives it to each [`Call`](super::Call), and returns it from
/// [`LockHooks::pending_work`](super::LockHooks::pending_work).
///
/// Guards and calls count their own work. What a store's crate cleans up beside them, such as a queue's
/// entry or a session that still has a lock, it counts itself, from where the work is ordered to its end.
#[derive(Clone, Default)]
pub struct PendingWork {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    count: AtomicUsize,
    done: Notify,
}

impl PendingWork {
    /// No work.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one piece of work, until what is returned is dropped.
    pub fn begin(&self) -> PendingEntry {
        self.shared.count.fetch_add(1, SeqCst);
        PendingEntry { work: self.clone() }
    }

    /// How many pieces of work are under way.
    pub fn len(&self) -> usize {
        self.shared.count.load(SeqCst)
    }

    /// Whether no work is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until no work is under way, for at most `max`. Returns how much is left.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn drained(&self, max: Duration) -> usize {
        let drained = async {
            loop {
                let done = self.shared.done.notified();
                if self.is_empty() {
                    return;
                }
                done.await;
            }
        };
        match time::timeout(max, drained).await {
            Ok(()) => 0,
            Err(_) => self.len(),
        }
    }
}

impl fmt::Debug for PendingWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingWork").field("len", &self.len()).finish()
    }
}

/// One piece of work that is under way; dropping it says that it is done.
#[derive(Debug)]
#[must_use = "dropping it says that the work is done"]
pub struct PendingEntry {
    work: PendingWork,
}

impl Drop for PendingEntry {
    fn drop(&mut self) {
        let shared = &self.work.shared;
        if shared.count.fetch_sub(1, SeqCst) == 1 {
            shared.done.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_all_work_and_no_longer() {
        let (began, work) = (Instant::now(), PendingWork::new());
        for seconds in 1..=3 {
            let entry = work.clone().begin();
            tokio::spawn(async move {
                sleep(SECOND * seconds).await;
                drop(entry);
            });
        }
        assert_eq!(work.drained(SECOND * 3 / 2).await, 2);
        assert_eq!(work.drained(SECOND * 60).await, 0);
        assert_eq!(began.elapsed(), SECOND * 3);
        assert_eq!((work.drained(Duration::ZERO).await, work.is_empty()), (0, true));
    }
}
