//! The commands that only queues need, and their replies.

use std::{collections::HashMap, sync::Weak};

use glock_core::{
    Action, LockError,
    toolkit::{AcquireReply, AcquireRequest, CallDeadline, LockStatus, LockWaiters, WaiterId},
};
use mongodb::bson::{Bson, Document, RawArrayBuf, doc, rawdoc};

use crate::{
    client::Command,
    commands::{
        Commands, first_batch, millis_of,
        pipelines::{raw, seen_field},
    },
    error::Failure,
    schema::ID,
};

/// A client that was seen longer ago is noted as alive: well before it counts as gone. Each note is a
/// write, which all change streams read.
const UNSEEN_MAX_MS: i64 = 2_500;

impl Commands {
    /// Takes the lock, or puts the waiter into its queue: one `findAndModify`, as an acquire.
    pub(crate) async fn enter(
        &self,
        request: AcquireRequest<'_>,
        waiter: WaiterId,
        until: CallDeadline,
        caller: &Weak<()>,
    ) -> Result<AcquireReply, Failure> {
        let waiter = waiter.to_string();
        let variables = rawdoc! { "waiter": waiter.as_str() };
        let parts = (&self.pipelines.enter, &self.pipelines.entered);
        let (found, sent_at) = self.take(request, parts, variables, until, caller).await?;
        let holder = self.holder(&found)?;
        if found.get_bool("granted").unwrap_or(false) {
            return Ok(AcquireReply::Granted { fence: holder.fence, sent_at });
        }
        let is_first = found.get_bool("first").unwrap_or(false);
        let free_in = is_first.then(|| millis_of(&found, "left"));
        Ok(AcquireReply::Waiting { free_in, turn: self.own(&found, "turn") })
    }

    /// Takes the waiter out of the queue. Returns the one of this client whose turn it is then.
    pub(crate) async fn leave(
        &self,
        key: &str,
        waiter: WaiterId,
        until: CallDeadline,
    ) -> Result<Option<u64>, LockError> {
        let waiter = waiter.to_string();
        let body = rawdoc! {
            "findAndModify": self.collection.as_str(),
            "query": {
                "_id": key,
                "$or": [{ "waiters": waiter.as_str() }, { "reserved": waiter.as_str() }],
            },
            "update": self.pipelines.leave.clone(),
            "fields": self.pipelines.turn.clone(),
            "new": true,
            "let": { "waiter": waiter.as_str() },
            "writeConcern": { "w": 1 },
        };
        let command = Command { action: Action::Wait, body, secret: "" };
        let reply = self.sender().repeat(command, until).await?;
        let found = reply.body.get_document("value").ok();
        Ok(found.and_then(|found| self.own(found, "turn")))
    }

    /// Keeps the places of this client's waiters, whose locks have these keys: one `find`, and one `update`
    /// of those in which the client was not seen for a while.
    pub(crate) async fn heartbeat(
        &self,
        locks: &[(String, LockWaiters)],
        until: CallDeadline,
    ) -> Result<Vec<LockStatus>, LockError> {
        let mut keys = RawArrayBuf::new();
        for (key, _) in locks {
            keys.push(key.as_str());
        }
        let count = i64::try_from(locks.len()).unwrap_or(i64::MAX);
        let body = rawdoc! {
            "find": self.collection.as_str(),
            "filter": { "_id": { "$in": keys }, "$or": self.pipelines.is_waiting.clone() },
            "projection": self.pipelines.found.clone(),
            // All in one reply: a page has 101 otherwise.
            "batchSize": count,
            "singleBatch": true,
            "readConcern": { "level": "local" },
        };
        let command = Command { action: Action::Wait, body, secret: "" };
        let reply = self.sender().repeat(command, until).await?;
        let batch = first_batch(&reply.body, Action::Wait)?;
        let found = batch.iter().filter_map(Bson::as_document);
        let found: HashMap<_, _> =
            found.filter_map(|found| Some((found.get_str(ID).ok()?, found))).collect();
        let unseen_for = |max: i64| {
            let age = |found: &Document| found.get_i64("age").unwrap_or(0);
            found.iter().filter(move |(_, found)| age(found) > max).map(|(key, _)| *key)
        };
        if unseen_for(UNSEEN_MAX_MS).next().is_some() {
            // With those that would follow soon, so that all are noted together from then on.
            self.note_alive(unseen_for(UNSEEN_MAX_MS / 2).collect(), until).await?;
        }
        let nothing = Document::new();
        let status = |(key, lock): &(String, LockWaiters)| {
            self.status(found.get(key.as_str()).copied().unwrap_or(&nothing), lock)
        };
        Ok(locks.iter().map(status).collect())
    }

    /// Notes that the client is alive, in the queues that it is in. A crash may lose that.
    async fn note_alive(&self, keys: Vec<&str>, until: CallDeadline) -> Result<(), LockError> {
        let query =
            doc! { ID: { "$in": keys }, seen_field(&self.client.to_string()): { "$exists": true } };
        let update = rawdoc! {
            "q": raw(&query),
            "u": self.pipelines.keep_alive.clone(),
            "multi": true,
        };
        let body = rawdoc! {
            "update": self.collection.as_str(),
            "updates": [update],
            "writeConcern": { "w": 1 },
        };
        let command = Command { action: Action::Wait, body, secret: "" };
        self.sender().repeat(command, until).await.map(drop)
    }

    fn status(&self, found: &Document, lock: &LockWaiters) -> LockStatus {
        let first = self.own(found, "first").map(|number| (number, millis_of(found, "left")));
        let places = found.get_array("places").map_or(&[][..], Vec::as_slice);
        let places = places.iter().filter_map(Bson::as_str);
        let places = places.filter_map(|waiter| self.client.number_of(waiter));
        lock.status(self.own(found, "turn"), first, places)
    }
}
