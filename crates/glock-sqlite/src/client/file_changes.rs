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
    /// Every commit counts: the number that SQLite had for the last one that was seen.
    Polled(Option<i64>),
}

impl FileChanges {
    /// Notices what changes from now on.
    pub(crate) fn new(connections: &Connections) -> Self {
        let path = connections.database().file.path();
        FileWatch::new(path).map_or(Self::Polled(None), Self::Notified)
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
                *self = Self::Polled(None);
            }
            return;
        }
        // There may be room for another watch by now, or a file again.
        if let Ok(watch) = FileWatch::new(connections.database().file.path()) {
            *self = Self::Notified(watch);
            return;
        }
        self.poll(connections, until).await;
    }

    async fn poll(&mut self, connections: &Connections, until: CallDeadline) {
        let Self::Polled(seen) = self else { return };
        loop {
            let version = connections.version(until).await.ok();
            // One that cannot be read is a reason to look, which says why.
            if version.is_none() || version != *seen {
                *seen = version;
                return;
            }
            time::sleep(POLL).await;
        }
    }
}
