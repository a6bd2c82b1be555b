//! `Wakeups`: which keys this client's waiters sleep on, for stores that notify of releases.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, MutexGuard},
};

use tokio::sync::watch;

use super::mutex::Mutex;

/// Which keys this client's waiters sleep on. Clones share it.
///
/// A store has one stream of notifications a client. The task that reads the stream calls
/// [`wake`](Self::wake), and [`wake_all`](Self::wake_all) after an interruption, because it may have
/// missed a release.
#[derive(Clone, Default)]
pub struct Wakeups {
    keys: Arc<Mutex<HashMap<String, watch::Sender<()>>>>,
}

impl Wakeups {
    /// No waiter sleeps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sleeps on `key` from now on: a wake-up between this call and [`Subscription::woken`] counts.
    pub fn subscribe(&self, key: &str) -> Subscription {
        let mut keys = self.keys();
        let woken = match keys.get(key) {
            Some(sender) => sender.subscribe(),
            None => keys.entry(key.into()).or_insert_with(|| watch::Sender::new(())).subscribe(),
        };
        Subscription { key: key.into(), woken: Some(woken), wakeups: self.clone() }
    }

    /// Wakes the waiters that sleep on `key`.
    pub fn wake(&self, key: &str) {
        if let Some(sender) = self.keys().get(key) {
            sender.send_replace(());
        }
    }

    /// Wakes all waiters: a release may have been missed.
    pub fn wake_all(&self) {
        for sender in self.keys().values() {
            sender.send_replace(());
        }
    }

    /// Whether a waiter sleeps on `key`.
    pub fn is_awaited(&self, key: &str) -> bool {
        self.keys().contains_key(key)
    }

    /// The keys that waiters sleep on, in no order: for stores that watch what is awaited.
    pub fn awaited(&self) -> Vec<String> {
        self.keys().keys().cloned().collect()
    }

    /// On how many keys waiters sleep.
    pub fn len(&self) -> usize {
        self.keys().len()
    }

    /// Whether no waiter sleeps.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<()>>> {
        self.keys.lock()
    }
}

impl fmt::Debug for Wakeups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakeups").field("keys", &self.len()).finish()
    }
}

/// Sleeps on one key; dropping it leaves nothing behind.
#[derive(Debug)]
pub struct Subscription {
    key: String,
    /// `None` only while it is dropped.
    woken: Option<watch::Receiver<()>>,
    wakeups: Wakeups,
}

impl Subscription {
    /// Returns once the key was woken since the subscription or the last return.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn woken(&mut self) {
        if let Some(woken) = &mut self.woken {
            // An error would mean that the sender is gone; it lives as long as a subscription does.
            let _ = woken.changed().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut keys = self.wakeups.keys();
        self.woken = None;
        if keys.get(&self.key).is_some_and(|sender| sender.receiver_count() == 0) {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_between_subscription_and_sleep_counts() {
        let wakeups = Wakeups::new();
        let mut sleeper = wakeups.subscribe("a");
        wakeups.wake("a");
        assert!(timeout(SOON, sleeper.woken()).await.is_ok());
        assert!(timeout(SOON, sleeper.woken()).await.is_err(), "one wake-up wakes once");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_apart_unless_all_are_woken() {
        let wakeups = Wakeups::new();
        let (mut a, mut b) = (wakeups.subscribe("a"), wakeups.subscribe("b"));
        wakeups.wake("a");
        assert!(timeout(SOON, b.woken()).await.is_err());
        assert!(timeout(SOON, a.woken()).await.is_ok());
        wakeups.wake_all();
        assert!(timeout(SOON, a.woken()).await.is_ok());
        assert!(timeout(SOON, b.woken()).await.is_ok());
    }

    #[test]
    fn sleepers_that_are_gone_leave_nothing_behind() {
        let wakeups = Wakeups::new();
        let (one, two) = (wakeups.subscribe("a"), wakeups.subscribe("a"));
        drop(one);
        assert!(wakeups.is_awaited("a"));
        assert_eq!(wakeups.awaited(), ["a"]);
        drop(two);
        assert!(wakeups.is_empty() && wakeups.awaited().is_empty());
        wakeups.wake("a");
    }
}
