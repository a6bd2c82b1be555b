//! `LocalQueues`: the entries that one client has in the store's queues.

use std::{collections::HashMap, time::Duration};

use tokio::{sync::watch, time::Instant};

#[derive(Default)]
pub(super) struct LocalQueues {
    pub(super) by_name: HashMap<String, Queue>,
    /// How many entries in all.
    pub(super) len: usize,
    /// How many entries there may be before old ones without a successor are removed.
    sweep_at: usize,
    /// The number of the next entry.
    next: u64,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) entries: HashMap<String, Entry>,
    /// How many of them are waiters: a `LocalWaiter` removes them. The others are holds.
    pub(super) waiters: usize,
    /// The one that was entered last, while it is a waiter that is not about to have its turn.
    pub(super) newest: Option<String>,
}

pub(super) struct Entry {
    pub(super) fate: watch::Sender<Fate>,
    since: Instant,
    /// The number of its `LocalWaiter`, if one removes it. The name alone would not do: the store may
    /// use it again before an earlier waiter of that name is dropped.
    pub(super) waiter: Option<u64>,
}

/// What has become of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    There,
    Left,
    /// It has left as the first in its queue.
    Served,
}

/// A hold whose entry is older may be one whose lease was dropped.
pub(super) const KEPT: Duration = Duration::from_mins(1);
pub(super) const SWEEP_AT_MIN: usize = 256;

impl LocalQueues {
    /// Returns the number of the new entry, and the one that it replaced.
    pub(super) fn insert(&mut self, queue: &str, name: &str) -> (u64, Option<Entry>) {
        if self.len >= self.sweep_at {
            self.sweep();
        }
        let number = self.next;
        self.next += 1;
        let replaced = self.remove(queue, name);
        let queue = self.by_name.entry(queue.into()).or_default();
        let (fate, since) = (watch::Sender::new(Fate::There), Instant::now());
        queue.entries.insert(name.into(), Entry { fate, since, waiter: Some(number) });
        queue.newest = Some(name.into());
        queue.waiters += 1;
        self.len += 1;
        (number, replaced)
    }

    pub(super) fn remove(&mut self, queue: &str, name: &str) -> Option<Entry> {
        let entries = self.by_name.get_mut(queue)?;
        let entry = entries.entries.remove(name)?;
        entries.waiters -= usize::from(entry.waiter.is_some());
        entries.newest.take_if(|newest| newest == name);
        if entries.entries.is_empty() {
            self.by_name.remove(queue);
        }
        self.len -= 1;
        Some(entry)
    }

    /// The entry of the waiter with this number, unless it was replaced, has left or became a hold.
    pub(super) fn of_waiter(
        &mut self,
        queue: &str,
        name: &str,
        number: u64,
    ) -> Option<(&mut Entry, &mut usize)> {
        let queue = self.by_name.get_mut(queue)?;
        let entry = queue.entries.get_mut(name)?;
        (entry.waiter == Some(number)).then_some((entry, &mut queue.waiters))
    }

    /// Forgets that `name` is the newest entry.
    pub(super) fn not_newest(&mut self, queue: &str, name: &str) {
        if let Some(queue) = self.by_name.get_mut(queue) {
            queue.newest.take_if(|newest| newest == name);
        }
    }

    fn sweep(&mut self) {
        self.by_name.retain(|_, queue| {
            queue.entries.retain(|_, entry| {
                entry.waiter.is_some()
                    || entry.fate.receiver_count() > 0
                    || entry.since.elapsed() < KEPT
            });
            !queue.entries.is_empty()
        });
        self.len = self.by_name.values().map(|queue| queue.entries.len()).sum();
        self.sweep_at = SWEEP_AT_MIN.max(self.len * 2);
    }
}
