//! How a waiter joins a queue, and what it then waits for.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use glock_core::LockId;
use serde_json::json;

use crate::{
    client::Client, commands::lock, error::ConsulError, queue::place::LockQueue, schema::encoded,
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
        let mut refused = String::new();
        for _ in 0..SESSIONS_MAX {
            let session = self.sessions.of_places(ttl).await?;
            let operations = vec![
                lock(&place, &session, &())?,
                json!({"Verb": "set", "Key": mark, "Value": written}),
                json!({"Verb": "get-tree", "Key": prefix}),
            ];
            match self.consul.transaction(operations).await? {
                // A key is in the reply as it was written, and as it was read.
                Ok(entries) => return Ok(LockQueue::read("", &prefix, entries.iter().skip(2))),
                Err(refusal) => refused = refusal.text(),
            }
            if refused.contains("invalid session") {
                self.sessions.places_lost(&session);
            } else {
                // The place is that of a session before this one.
                let delete = json!({"Verb": "delete", "Key": place});
                let _ = self.consul.transaction(vec![delete]).await?;
            }
        }
        Err(ConsulError::status(409, refused.as_bytes()))
    }

    /// Has the waiter woken: the first by the end of the hold, the others by who is before them.
    pub(crate) async fn wait_in(
        &self,
        id: &LockId,
        queue: &LockQueue,
        waiter: &str,
    ) -> Result<(), ConsulError> {
        match queue.places.first() {
            Some(first) if first.waiter == waiter => {
                let key = self.keys.key(id);
                self.watch.is_first(&key, first);
                // The watch may have seen the end of the hold before.
                self.waiters.see(&key, self.consul.entry(&key).await?.as_ref());
            }
            _ => self.turns.keep(),
        }
        Ok(())
    }
}
