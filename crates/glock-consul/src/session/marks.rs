//! `Marks`: the marks of queues without waiters, which are deleted in a while.

use std::{collections::HashMap, time::Duration};

use glock_core::toolkit::Mutex;
use tokio::time::{self, Instant};

use crate::{client::ConsulClient, commands::delete_cas};

/// The marks of queues without waiters: the index of each, and since when. They are deleted in a while: a lock
/// that passes on often has another waiter soon.
#[derive(Default)]
pub(crate) struct Marks(Mutex<HashMap<String, (u64, Instant)>>);

const KEPT: Duration = Duration::from_secs(1);

impl Marks {
    pub(crate) fn add(&self, mark: String, index: u64) {
        self.0.lock().insert(mark, (index, Instant::now()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Deletes those that are due, or all, unless a waiter has joined since. Returns `false` after a failure:
    /// those that are left are deleted the next time, or by the next caller who finds one.
    pub(crate) async fn delete(&self, client: &ConsulClient, limit: Duration, all: bool) -> bool {
        let now = Instant::now();
        let due =
            |_: &String, (_, since): &mut (u64, Instant)| all || now.duration_since(*since) >= KEPT;
        let mut due: Vec<_> = self.0.lock().extract_if(due).collect();
        while let Some((mark, (index, since))) = due.pop() {
            let delete = client.transaction(vec![delete_cas(&mark, index)]);
            if !matches!(time::timeout(limit, delete).await, Ok(Ok(_))) {
                due.push((mark, (index, since)));
                let mut marks = self.0.lock();
                // A newer one is to stay.
                for (mark, at) in due {
                    marks.entry(mark).or_insert(at);
                }
                return false;
            }
        }
        true
    }
}
