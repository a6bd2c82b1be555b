//! What the toy store does about the queues of its locks.

use std::time::Duration;

use crate::{queue::RESERVED, store::Store};

impl Store {
    /// Whom a lock that is free is reserved for. Notifies it if that is new.
    pub(crate) fn first(&self, key: &str) -> Option<String> {
        let (waiter, notified) = self.records().queues.first(self.flaw, key)?;
        for waiter in notified {
            let _ = self.freed.send(format!("{key} {waiter}"));
        }
        Some(waiter)
    }

    /// The token of the grant; or whether the waiter is the first in the queue, and the milliseconds left.
    pub(crate) fn enter(
        &self,
        (key, owner, label): (&str, &str, &str),
        ttl: Duration,
        waiter: &str,
    ) -> Result<u64, (bool, u128)> {
        let left = match self.live(key) {
            Some(hold) if hold.owner == owner => return Ok(hold.fence),
            Some(hold) => hold.millis_left(),
            None => match self.first(key) {
                Some(first) if first != waiter => RESERVED.as_millis(),
                _ => {
                    let mut records = self.records();
                    records.queues.claimed(key, waiter);
                    return Ok(self.grant(&mut records, key, (owner, label), ttl));
                }
            },
        };
        Err((self.records().queues.join(key, waiter), left))
    }

    pub(crate) fn leave(&self, key: &str, waiter: &str) -> bool {
        if self.records().queues.leave(self.flaw, key, waiter) && self.live(key).is_none() {
            self.first(key);
        }
        true
    }

    pub(crate) fn on_heartbeat(&self, key: &str, waiters: &str) -> String {
        let waiters: Vec<_> = waiters.split(',').map(str::to_owned).collect();
        let left = self.live(key).map(|hold| hold.millis_left());
        if left.is_none() {
            self.first(key);
        }
        let found = self.records().queues.on_heartbeat(self.flaw, key, &waiters);
        let (turn, first) = (found.turn.unwrap_or_default(), found.is_first.unwrap_or_default());
        let left = left.unwrap_or(RESERVED.as_millis());
        format!("{turn} {first} {left} {}", found.lost.join(","))
    }

    /// How many waiters there are under keys that begin so.
    pub(crate) fn queued(&self, prefix: &str) -> usize {
        self.records().queues.count(prefix)
    }

    /// How many wait for the lock.
    pub(crate) fn waiters(&self, key: &str) -> usize {
        self.records().queues.waiters(key)
    }
}
