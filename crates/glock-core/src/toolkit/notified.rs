//! `Notified`: those of a client that the store notifies.

use std::{fmt, sync::Arc};

use super::{waiter_registry::WaiterRegistry, wakeups::Wakeups};

/// Those of a client that the store notifies, for stores that keep a queue. Clones share it.
#[derive(Clone)]
pub struct Notified {
    channel: Arc<str>,
    /// The waiters in queues.
    pub waiters: WaiterRegistry,
    /// Those who sleep until a lock may be free.
    pub sleepers: Wakeups,
}

impl Notified {
    /// A new client, whose channel's name is `prefix` and the client's name.
    pub fn new(prefix: &str) -> Self {
        let (waiters, sleepers) = (WaiterRegistry::new(), Wakeups::new());
        let channel = format!("{prefix}{}", waiters.client()).into();
        Self { channel, waiters, sleepers }
    }

    /// The channel on which this client alone is notified.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Notifies the one that `message` is for: it is a waiter's number, or the key of a lock.
    pub fn receive(&self, message: &str) {
        match message.parse::<u64>() {
            Ok(number) => self.waiters.turn(number),
            Err(_) => self.sleepers.wake(message),
        }
    }

    /// This client has ended the hold on the lock at `key`, which is now reserved for `turn` if that is one of
    /// its own waiters: they need no message.
    pub fn freed(&self, key: &str, turn: Option<u64>) {
        self.sleepers.wake(key);
        self.waiters.turn(turn);
    }

    /// Messages may have been missed.
    pub fn missed(&self) {
        self.waiters.missed();
        self.sleepers.wake_all();
    }

    /// Whether the client has neither waiters nor sleepers.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty() && self.sleepers.is_empty()
    }
}

/// A client of a store that has no channels.
impl Default for Notified {
    fn default() -> Self {
        Self::new("")
    }
}

impl fmt::Debug for Notified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notified")
            .field("waiters", &self.waiters)
            .field("sleepers", &self.sleepers)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::LockId;

    #[tokio::test(start_paused = true)]
    async fn a_message_notifies_the_one_it_is_for() {
        let notified = Notified::new("glock:");
        assert_eq!(notified.channel(), format!("glock:{}", notified.waiters.client()));
        assert!(notified.is_empty());
        let mut sleeper = notified.sleepers.subscribe("n/x");
        let waiter = notified.waiters.register(&LockId::new("x").unwrap());
        assert!(!notified.is_empty());

        notified.receive(&waiter.waiter.number.to_string());
        assert!(waiter.signal.take().is_ok());
        notified.freed("n/y", Some(waiter.waiter.number));
        assert!(waiter.signal.take().is_ok());
        assert!(timeout(Duration::from_millis(10), sleeper.woken()).await.is_err());
        notified.receive("n/x");
        assert!(waiter.signal.take().is_err());
        assert!(timeout(Duration::from_millis(10), sleeper.woken()).await.is_ok());
        notified.missed();
        assert!(timeout(Duration::from_millis(10), sleeper.woken()).await.is_ok());
    }
}
