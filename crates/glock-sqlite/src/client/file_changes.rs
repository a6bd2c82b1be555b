//! `FileChanges`: how a process notices that another one has released a lock.

use std::time::Duration;

use glock_core::toolkit::CallDeadline;
use tokio::time::{self, Instant};

use crate::client::{connections::Connections, file_watch::FileWatch};

/// The pause before SQLite is asked for changes, where the system does not notify of them.
const POLL: Duration = Duration::from_millis(8);
/// It is so many times as long as the last reply took: where that is slow, so many ask that the machine has little left
/// for the one that writes.
const POLL_PAUSE: u32 = 20;
const POLL_MAX: Duration = Duration::from_millis(500);

/// Changes of the file: the system notifies of them, or SQLite is asked.
#[derive(Debug)]
pub(crate) enum FileChanges {
    /// A release touches the file if its lock is marked as waited for.
    Notified(FileWatch),
    /// Every commit counts.
    Polled(Polled),
}

/// What SQLite has replied last.
#[derive(Debug, Default)]
pub(crate) struct Polled {
    /// The number that it had for the last commit.
    seen: Option<i64>,
    took: Duration,
}

impl FileChanges {
    /// Notices what changes from now on.
    pub(crate) fn new(connections: &Connections) -> Self {
        let path = connections.database().file.path();
        FileWatch::new(path).map_or_else(|_| Self::Polled(Polled::default()), Self::Notified)
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
                *self = Self::Polled(Polled::default());
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
        let Self::Polled(Polled { seen, took }) = self else { return };
        loop {
            if seen.is_some() {
                time::sleep((*took * POLL_PAUSE).clamp(POLL, POLL_MAX)).await;
            }
            // Where this is dropped half-way, the connection is too, and the next one counts from its beginning.
            let (before, asked_at) = (seen.take(), Instant::now());
            let version = connections.version(until).await.ok();
            (*seen, *took) = (version, asked_at.elapsed());
            // One that cannot be read is a reason to look, which says why.
            if version.is_none() || version != before {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use glock_core::{LockConfig, toolkit::AcquireRequest};
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;
    use crate::client::Client;

    const SOON: Duration = Duration::from_secs(20);

    /// As where the system has no more watches to give.
    #[tokio::test]
    async fn what_another_client_commits_is_noticed_by_asking() {
        let path = std::env::temp_dir().join(format!("glock-polled-{}.db", std::process::id()));
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let client = || Client::new(&options, LockConfig::default()).unwrap();
        let (ours, theirs) = (client(), client());
        let until = CallDeadline::after(SOON);
        theirs.connections().connect(until).await.unwrap();
        let mut changes = FileChanges::Polled(Polled::default());
        changes.poll(ours.connections(), until).await;
        for n in 0..3 {
            let quiet = time::timeout(POLL * 5, changes.poll(ours.connections(), until));
            assert!(quiet.await.is_err(), "nothing was committed");
            let owner = glock_core::OwnerToken::random().unwrap();
            let key = n.to_string();
            let request = AcquireRequest { key: &key, owner: &owner, ttl: SOON, holder: "" };
            let granted = theirs.commands.acquire(request, until).await;
            assert!(granted.is_ok());
            let noticed = time::timeout(SOON, changes.poll(ours.connections(), until));
            noticed.await.expect("a commit is never noticed");
        }
        for end in ["", "-wal", "-shm"] {
            std::fs::remove_file(format!("{}{end}", path.display())).unwrap_or_default();
        }
    }
}
