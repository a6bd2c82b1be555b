//! `WatchList`: the watches of a client, and what the stream does not know of them yet.

use std::collections::{HashMap, VecDeque};

use etcd_client::{WatchFilterType, WatchOptions, WatchResponse};
use tokio::sync::watch;

use crate::commands::revision;

/// The watches of a client.
#[derive(Default)]
pub(crate) struct WatchList {
    pub(crate) by_id: HashMap<i64, Entry>,
    last_id: i64,
    /// The stream does not know of these yet: of the watch, or that it is over.
    unsent: VecDeque<i64>,
    /// No watch will follow.
    pub(crate) closed: bool,
}

/// A watched key.
pub(crate) struct Entry {
    key: String,
    /// The first revision that counts. The watch starts from it after an interruption, so that no event
    /// is missed.
    from: i64,
    /// Whether the stream sends only what happens from now on. etcd is slow to start with history: it
    /// looks for such watches some ten times a second.
    from_now: bool,
    pub(crate) started: bool,
    events: watch::Sender<WatchEvent>,
}

/// What a watch reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WatchEvent {
    /// Nothing yet.
    None,
    /// It has started, but after the revision that the waiter saw: the key may have gone in between.
    Started,
    /// The key is gone, or the watch is.
    Gone,
}

/// The revision that etcd takes for the next one.
const NOW: i64 = 0;
impl WatchList {
    /// Adds a watch of `key`, which was there at revision `seen`. Returns its id and its events.
    pub(crate) fn add(&mut self, key: String, seen: i64) -> (i64, watch::Receiver<WatchEvent>) {
        let (sender, events) = watch::channel(WatchEvent::None);
        let from = seen + 1;
        let entry = Entry { key, from, from_now: true, started: false, events: sender };
        self.last_id += 1;
        self.by_id.insert(self.last_id, entry);
        self.unsent.push_back(self.last_id);
        (self.last_id, events)
    }

    /// What a new stream has to know.
    pub(crate) fn restart(&mut self) {
        self.unsent = self.by_id.keys().copied().collect();
        for entry in self.by_id.values_mut().filter(|entry| entry.started) {
            // What has happened since is history.
            entry.from_now = false;
        }
    }

    /// The next request: a watch, or its end.
    pub(crate) fn next(&self) -> Option<Request> {
        let id = *self.unsent.front()?;
        Some((id, self.by_id.get(&id).map(|entry| (entry.key.clone(), entry.options(id)))))
    }

    /// Notes that the stream has that request.
    pub(crate) fn sent(&mut self, id: i64) {
        if self.unsent.front() == Some(&id) {
            self.unsent.pop_front();
        }
    }

    /// Notes a message of the stream.
    pub(crate) fn received(&mut self, message: &WatchResponse) {
        let id = message.watch_id();
        // A watch is over with its first event. If it was cancelled, by compaction or for want of a
        // permission, an event may have been missed: the waiter wakes and looks.
        if message.canceled() {
            self.by_id.remove(&id);
        } else if !message.events().is_empty() {
            if let Some(entry) = self.end(id) {
                entry.events.send_replace(WatchEvent::Gone);
            }
        } else if message.created()
            && let Some(entry) = self.by_id.get_mut(&id)
        {
            entry.started = true;
            if entry.from_now && revision(message.header()) >= entry.from {
                entry.events.send_replace(WatchEvent::Started);
            }
        }
    }

    /// Ends a watch, if it is there.
    pub(crate) fn end(&mut self, id: i64) -> Option<Entry> {
        let entry = self.by_id.remove(&id)?;
        self.unsent.push_back(id);
        Some(entry)
    }
}

/// The key and options of a watch, or `None` for its end.
pub(crate) type Request = (i64, Option<(String, WatchOptions)>);

impl Entry {
    fn options(&self, id: i64) -> WatchOptions {
        WatchOptions::new()
            .with_watch_id(id)
            .with_start_revision(if self.from_now { NOW } else { self.from })
            .with_filters([WatchFilterType::NoPut])
    }
}
