//! `FileChanges`: how a process notices that another one has released a lock.

use std::time::Duration;

use glock_core::toolkit::CallDeadline;
use tokio::time;

use crate::client::{connections::Connections, file_watch::FileWatch};

/// How often SQLite is asked for changes where the system does not notify of them.
const POLL: Duration = Duration::from_millis(8);

/// Changes of the file: the system notifies of them, or SQLite is asked.
#[derive(Debug)]
pub(crate) enum FileChanges {
    /// A release touches the file if its lock is marked as waited for.
    Notified(FileWatch),
    /// Every commit counts.
    Polled,
}

impl FileChanges {
    /// Notices what changes from now on.
    pub(crate) fn new(connections: &Connections) -> Self {
        let path = connections.database().file.path();
        FileWatch::new(path).map_or(Self::Polled, Self::Notified)
    }

    /// Whether a lock must be marked for its release to be noticed.
    pub(crate) fn are_notified(&self) -> bool {
        matches!(self, Self::Notified(_))
    }

    /// Returns after a change, and when changes are noticed in another way from now on.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what changes between two calls is noticed by the next look.
    pub(crate) async fn next(&mut self, connections: &Connections, until: CallDeadline) {
        if let Self::Notified(watch) = self {
            if watch.touched().await.is_err() {
                // The file is not the one at its path any more.
                *self = Self::Polled;
            }
            return;
        }
        *self = Self::new(connections);
        if self.are_notified() {
            return;
        }
        let version = || connections.version(until);
        let mut before = version().await.ok();
        loop {
            time::sleep(POLL).await;
            let now = version().await.ok();
            // One that cannot be read is a reason to look, which says why.
            if now.is_none() || now != before {
                return;
            }
            before = now;
        }
    }
}
