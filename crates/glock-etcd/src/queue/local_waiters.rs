//! `Neighbours`: the keys of one client's own waiters, so that one who waits behind another is told
//! of its end without asking etcd.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

/// The keys of one client that are in line, or hold the lock that they were in line for. It saves
/// messages and decides nothing: one who was told that a key is gone asks etcd for the lock, and
/// one who is told nothing for a while watches the key.
#[derive(Default)]
pub(crate) struct Neighbours {
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    by_name: HashMap<String, Key>,
    /// How many there may be before those are looked for that nobody will ever tell the end of.
    sweep_at: usize,
}

struct Key {
    gone: watch::Sender<bool>,
    since: Instant,
}

/// A key that is older may be one of a lease that was dropped.
const KEPT: Duration = Duration::from_mins(1);
const SWEEP_AT_MIN: usize = 256;

impl Neighbours {
    /// A key is there.
    pub(crate) fn arrived(&self, key: &str) {
        let mut keys = self.keys();
        if keys.by_name.len() >= keys.sweep_at {
            keys.by_name
                .retain(|_, key| key.gone.receiver_count() > 0 || key.since.elapsed() < KEPT);
            keys.sweep_at = SWEEP_AT_MIN.max(keys.by_name.len() * 2);
        }
        let there = Key { gone: watch::Sender::new(false), since: Instant::now() };
        keys.by_name.insert(key.into(), there);
    }

    /// etcd has said that a key is gone: whoever waits for that is told.
    pub(crate) fn left(&self, key: &str) {
        let mut keys = self.keys();
        if keys.by_name.is_empty() {
            // Where nobody waits, there is nothing to find by its hash.
            return;
        }
        if let Some(key) = keys.by_name.remove(key) {
            key.gone.send_replace(true);
        }
    }

    /// The key before somebody, if it is one of this client's.
    pub(crate) fn watch(&self, key: &str) -> Option<Neighbour> {
        self.keys().by_name.get(key).map(|key| Neighbour(key.gone.subscribe()))
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key of this client that another of its waiters waits behind.
pub(crate) struct Neighbour(watch::Receiver<bool>);

impl Neighbour {
    /// Returns once etcd has said that the key is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn left(&mut self) {
        if self.0.wait_for(|gone| *gone).await.is_err() {
            // Swept, or dropped with its client: nothing will be told.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Neighbours").field("keys", &self.keys().by_name.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_and_whoever_comes_too_late_asks_etcd() {
        let neighbours = Neighbours::default();
        assert!(neighbours.watch("a").is_none());
        neighbours.arrived("a");
        let mut before = neighbours.watch("a").unwrap();
        assert!(timeout(KEPT, before.left()).await.is_err());
        neighbours.left("a");
        before.left().await;
        assert!(neighbours.watch("a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_whose_end_is_never_told_do_not_pile_up() {
        let neighbours = Neighbours::default();
        let mut most = 0;
        for n in 0..100 * SWEEP_AT_MIN {
            neighbours.arrived(&format!("{n}"));
            most = most.max(neighbours.keys().by_name.len());
            advance(Duration::from_millis(300)).await;
        }
        assert!(most <= 4 * SWEEP_AT_MIN, "{most}");
    }
}
