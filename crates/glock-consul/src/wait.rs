//! Waiting: until a lock may be free, and until a hold has ended before its time.

use std::time::Duration;

use glock_core::{Action, Lease, LockError, LockId};
use tokio::time;

use crate::client::Client;

/// The pause after a look that failed, where the watch has seen the end of a hold.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

impl Client {
    /// Returns once the lock may be free, or after `max`.
    pub(crate) async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        let mut release = self.watch.on_release(&self.keys.key(id));
        let waiting = async {
            // Not together with the wake-up: the query may fail where this look tells why.
            let entry = self.read(Action::Wait, id).await?;
            if entry.is_some_and(|entry| entry.is_locked()) {
                self.watch.woken(&mut release).await;
            }
            Ok(())
        };
        time::timeout(max, waiting).await.unwrap_or(Ok(()))
    }

    /// Returns once the hold has ended before its time.
    pub(crate) async fn ended(&self, lease: &Lease) {
        let (id, token) = (lease.id(), lease.owner());
        let key = self.keys.key(id);
        loop {
            // Subscribed again each time, because the watch may have ended with its runtime.
            self.watch.woken(&mut self.watch.on_end(&key, token)).await;
            // The reply that the watch has seen may be older than the last renewal.
            loop {
                match self.read(Action::Inspect, id).await {
                    Ok(Some(entry)) if entry.held_by(token).is_some() => break,
                    Ok(_) => {
                        // A hold that was taken away is not released: end its session.
                        drop(self.sessions.reclaim(token, &key));
                        return;
                    }
                    Err(_) => time::sleep(LOOK_PAUSE).await,
                }
            }
        }
    }
}
