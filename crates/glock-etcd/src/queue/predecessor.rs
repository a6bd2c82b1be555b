//! `PredecessorWatch`: wakes a waiter when the key before its own is gone.

use std::time::Duration;

use glock_core::toolkit::LocalPredecessor;
use tokio::time::timeout;

use crate::{
    client::{Client, watch_list::WatchEvent},
    commands::Predecessor,
    schema::Range,
    watch::Watch,
};

/// The key before a waiter's, and how its end is noticed.
pub(crate) struct PredecessorWatch {
    pub(crate) predecessor: Predecessor,
    /// If the key is this client's, it may be released here, which takes no watch.
    local: Option<LocalPredecessor>,
    /// Set up when it is needed. A key of this client may also be deleted by another process, or run
    /// out.
    watch: Option<Watch>,
}

/// A local predecessor is watched in etcd as well after that time: most are gone by then.
const WATCH_AFTER: Duration = Duration::from_secs(1);

impl PredecessorWatch {
    pub(crate) fn new(client: &Client, range: &Range, predecessor: Predecessor) -> Self {
        let local = client.local.predecessor(&range.start, &predecessor.key);
        Self { predecessor, local, watch: None }
    }

    /// Returns once there is a reason to look at the queue.
    pub(crate) async fn event(&mut self, client: &Client) -> WatchEvent {
        if let (None, Some(local)) = (&self.watch, &mut self.local) {
            match timeout(WATCH_AFTER, local.gone()).await {
                Ok(true) => return WatchEvent::Gone,
                // Its fate is unknown: the watch finds it out.
                Ok(false) => self.local = None,
                Err(_) => {}
            }
        }
        let Predecessor { key, seen } = &self.predecessor;
        let watch = self.watch.get_or_insert_with(|| client.watcher.watch(key.clone(), *seen));
        match &mut self.local {
            Some(local) => tokio::select! {
                event = watch.event() => event,
                true = local.gone() => WatchEvent::Gone,
            },
            None => watch.event().await,
        }
    }
}
