//! How a waiter joins a queue, and what it then waits for.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use glock_core::LockId;
use serde_json::json;

use crate::{
    client::Client,
    commands::{delete, get_tree, lock},
    error::ConsulError,
    queue::place::{LockQueue, Place},
    schema::encoded,
};

/// A session that ended unnoticed is replaced, once.
const SESSIONS_MAX: usize = 2;

impl Client {
    /// Puts a waiter into the queue, behind all others, or leaves it where it is. Returns the queue.
    pub(crate) async fn join(
        &self,
        id: &LockId,
        waiter: &str,
        ttl: Duration,
    ) -> Result<LockQueue, ConsulError> {
        let (prefix, mark) = (self.keys.queue(id), self.keys.mark(id));
        let place = format!("{prefix}{waiter}");
        // A write that changes nothing would leave the mark's index as it is.
        let written = encoded(&format!("{waiter} {}", self.joins.fetch_add(1, Relaxed)));
        let written = written.map_err(|err| ConsulError::NotSent(err.into()))?;
        let mut sessions_left = SESSIONS_MAX;
        loop {
            let session = self.sessions.of_places(ttl).await?;
            let operations = vec![
                lock(&place, &session, &())?,
                json!({"Verb": "set", "Key": mark, "Value": written}),
                get_tree(&prefix),
            ];
            let refusal = match self.consul.transaction(operations).await? {
                // A key is in the reply as it was written, and as it was read.
                Ok(entries) => return Ok(LockQueue::read("", &prefix, entries.iter().skip(2))),
                Err(refusal) => refusal,
            };
            sessions_left -= 1;
            if sessions_left == 0 {
                return Err(refusal.into());
            }
            if refusal.text().contains("invalid session") {
                self.sessions.places_lost(&session);
            } else {
                // The place is that of a session before this one.
                let _ = self.consul.transaction(vec![delete(&place)]).await?;
            }
        }
    }

    /// Has the waiter woken: the first by the end of the hold, the others by who is before them.
    pub(crate) async fn wait_in(
        &self,
        id: &LockId,
        queue: &LockQueue,
        waiter: &str,
    ) -> Result<(), ConsulError> {
        match queue.places.first() {
            Some(first) if first.waiter == waiter => self.wait_first(id, first).await?,
            _ => self.turns.keep(),
        }
        Ok(())
    }

    /// Has the first waiter woken by the end of the hold, also if the watch has seen that before.
    pub(crate) async fn wait_first(&self, id: &LockId, first: &Place) -> Result<(), ConsulError> {
        let key = self.keys.key(id);
        self.watch.is_first(&key, first);
        self.waiters.see(&key, self.consul.entry(&key).await?.as_ref());
        Ok(())
    }
}
