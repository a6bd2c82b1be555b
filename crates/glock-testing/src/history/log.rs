//! `Log`: the records of a history, and the clock that they are written by.

use std::{sync::Arc, time::Duration};

use glock_core::toolkit::Mutex;
use tokio::time::Instant;

use crate::history::record::{Outcome, Record};

/// Clones write to the same records.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    epoch: Instant,
    records: Arc<Mutex<Vec<Record>>>,
}

impl Log {
    /// An empty one, its time counted from now.
    pub(crate) fn new() -> Self {
        Self { epoch: Instant::now(), records: Arc::default() }
    }

    /// Adds a record of a try that begins now, and returns its index.
    pub(crate) fn begin(&self, who: &str, id: &str) -> usize {
        let invoke = self.since_epoch(Instant::now());
        let record = Record { who: who.into(), id: id.into(), invoke, outcome: Outcome::Unknown };
        let mut records = self.records.lock();
        records.push(record);
        records.len() - 1
    }

    /// Changes the record at `index`.
    pub(crate) fn change(&self, index: usize, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.records.lock().get_mut(index) {
            change(record);
        }
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().clone()
    }

    /// A time as the records have it; a time before the start counts as the start.
    pub(crate) fn since_epoch(&self, time: Instant) -> Duration {
        time.saturating_duration_since(self.epoch)
    }
}
