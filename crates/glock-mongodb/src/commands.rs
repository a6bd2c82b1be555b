//! `Commands`: the commands that glock sends, one an operation, and their replies.

pub(crate) mod expressions;
pub(crate) mod pipelines;
mod replies;

use std::{sync::Weak, time::Duration};

use glock_core::{
    Action, Fault, FencingToken, Holder, LockError, OwnerToken,
    toolkit::{AcquireReply, AcquireRequest, CallDeadline, ClientId},
};
use mongodb::bson::{Bson, DateTime, Document, RawArrayBuf, RawDocumentBuf, cstr, rawdoc};
use tokio::time::Instant;

pub(crate) use self::replies::{Look, Outcome, Waiters, first_batch, millis_of};
use crate::{
    client::{Command, Reply, Sender},
    commands::pipelines::Pipelines,
    error::Failure,
    schema::{FENCE, HOLDER, ID, Schema},
};

/// The commands for one collection.
pub(crate) struct Commands {
    sender: Sender,
    pub(crate) collection: String,
    expiry: String,
    /// The client's name in queues.
    pub(crate) client: ClientId,
    pub(crate) pipelines: Pipelines,
}

impl Commands {
    /// Of the client with this name.
    pub(crate) fn new(sender: Sender, schema: &Schema, client: ClientId) -> Self {
        let (collection, expiry) = (schema.collection.clone(), schema.expiry.clone());
        let pipelines = Pipelines::new(schema, &client.to_string());
        Self { sender, collection, expiry, client, pipelines }
    }

    pub(crate) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The number of the waiter that a field names, if it is this client's.
    pub(crate) fn own(&self, found: &Document, name: &str) -> Option<u64> {
        self.client.number_of(found.get_str(name).ok()?)
    }

    /// Takes the lock if it is free: one `findAndModify`, which makes the document if there is none.
    pub(crate) async fn acquire(
        &self,
        request: AcquireRequest<'_>,
        until: CallDeadline,
        caller: &Weak<()>,
    ) -> Result<AcquireReply, Failure> {
        let parts = (&self.pipelines.acquire, &self.pipelines.acquired);
        let (found, sent_at) =
            self.take(request, parts, RawDocumentBuf::new(), until, caller).await?;
        let holder = self.holder(&found)?;
        if found.get_bool("granted").unwrap_or(false) {
            return Ok(AcquireReply::Granted { fence: holder.fence, sent_at });
        }
        let is_held = found.get_bool("held").unwrap_or(false);
        Ok(AcquireReply::Held(is_held.then_some(holder)))
    }

    /// Sends a `findAndModify` that may take the lock. Returns what its projection shows of the document, and
    /// the instant just before the command was sent.
    pub(crate) async fn take(
        &self,
        request: AcquireRequest<'_>,
        (update, fields): (&RawArrayBuf, &RawDocumentBuf),
        mut variables: RawDocumentBuf,
        until: CallDeadline,
        caller: &Weak<()>,
    ) -> Result<(Document, Instant), Failure> {
        let AcquireRequest { key, owner, ttl, holder } = request;
        variables.append(cstr!("owner"), owner.reveal());
        variables.append(cstr!("ttl"), millis(ttl));
        variables.append(cstr!("holder"), rawdoc! { "$literal": holder });
        let body = rawdoc! {
            "findAndModify": self.collection.as_str(),
            "query": { "_id": key },
            "update": update.clone(),
            "fields": fields.clone(),
            "new": true,
            "upsert": true,
            "let": variables,
            "writeConcern": { "w": "majority", "j": true },
        };
        let command = Command { action: Action::Acquire, body, secret: owner.reveal() };
        let mut reply = self.sender.once(command, until, caller).await?;
        let Some(Bson::Document(found)) = reply.body.remove("value") else {
            return Err(Failure::unexpected_reply());
        };
        if found.get_str(ID).ok() != Some(key) {
            let what = "the collection's collation makes two lock ids one; name another collection";
            return Err(Failure::new(Fault::Rejected, what));
        }
        Ok((found, reply.sent_at))
    }

    /// Renews the lease.
    pub(crate) async fn renew(
        &self,
        key: &str,
        owner: &OwnerToken,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Outcome, LockError> {
        let update = rawdoc! { "q": self.held_by(key, owner), "u": self.pipelines.renew.clone() };
        let body = rawdoc! {
            "update": self.collection.as_str(),
            "updates": [update],
            "let": { "ttl": millis(ttl) },
            "writeConcern": { "w": "majority", "j": true },
        };
        let command = Command { action: Action::Renew, body, secret: owner.reveal() };
        self.outcome(command, until).await
    }

    /// Renews the leases of these keys and owners by one command. Returns the instant just before it was sent, if all
    /// of them are held.
    pub(crate) async fn renew_all(
        &self,
        holds: &[(String, OwnerToken)],
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Option<Instant>, LockError> {
        let mut updates = RawArrayBuf::new();
        for (key, owner) in holds {
            let hold = self.held_by(key, owner);
            updates.push(rawdoc! { "q": hold, "u": self.pipelines.renew.clone() });
        }
        let body = rawdoc! {
            "update": self.collection.as_str(),
            "updates": updates,
            // One that is lost costs no other its renewal.
            "ordered": false,
            "let": { "ttl": millis(ttl) },
            "writeConcern": { "w": "majority", "j": true },
        };
        let command = Command { action: Action::Renew, body, secret: "" };
        let reply = self.sender.repeat(command, until).await?;
        let are_held = reply.body.get_i32("n").is_ok_and(|n| usize::try_from(n) == Ok(holds.len()));
        Ok(are_held.then_some(reply.sent_at))
    }

    /// Frees the lock if `owner` has it, and passes it on.
    pub(crate) async fn release(
        &self,
        key: &str,
        owner: &OwnerToken,
        waiters: Waiters,
        until: CallDeadline,
    ) -> Result<Outcome, LockError> {
        let hold = self.held_by(key, owner);
        self.end(Action::Release, hold, owner.reveal(), waiters, until).await
    }

    /// Ends the hold that `query` matches, and passes the lock on: one `update`. It is one `findAndModify`
    /// where the reply is to say whose turn it is.
    pub(crate) async fn end(
        &self,
        action: Action,
        hold: RawDocumentBuf,
        secret: &str,
        waiters: Waiters,
        until: CallDeadline,
    ) -> Result<Outcome, LockError> {
        let pipeline = self.pipelines.release.clone();
        let body = match waiters {
            Waiters::Elsewhere => rawdoc! {
                "update": self.collection.as_str(),
                "updates": [{ "q": hold, "u": pipeline }],
                "writeConcern": { "w": "majority", "j": true },
            },
            Waiters::Here => rawdoc! {
                "findAndModify": self.collection.as_str(),
                "query": hold,
                "update": pipeline,
                "fields": self.pipelines.turn.clone(),
                "new": true,
                "writeConcern": { "w": "majority", "j": true },
            },
        };
        self.outcome(Command { action, body, secret }, until).await
    }

    /// Who has the lock. Reads what a majority of the members has.
    pub(crate) async fn inspect(
        &self,
        key: &str,
        until: CallDeadline,
    ) -> Result<Option<Holder>, LockError> {
        let action = Action::Inspect;
        let shown = &self.pipelines.inspected;
        let Some(found) = self.read(action, key, shown, "majority", until).await? else {
            return Ok(None);
        };
        if !found.get_bool("held").unwrap_or(false) {
            return Ok(None);
        }
        self.holder(&found).map(Some).map_err(|failure| failure.during(action))
    }

    /// What a caller without a place sees. Reads what the primary has.
    pub(crate) async fn look(&self, key: &str, until: CallDeadline) -> Result<Look, LockError> {
        let shown = &self.pipelines.looked;
        let found = self.read(Action::Wait, key, shown, "local", until).await?;
        let found = found.unwrap_or_default();
        let left = millis_of(&found, "left");
        Ok(if !left.is_zero() {
            Look::Taken { left }
        } else if found.get_bool("waited_for").unwrap_or(false) {
            Look::WaitedFor
        } else {
            Look::Free
        })
    }

    /// What a projection shows of a lock's document.
    async fn read(
        &self,
        action: Action,
        key: &str,
        shown: &RawDocumentBuf,
        level: &str,
        until: CallDeadline,
    ) -> Result<Option<Document>, LockError> {
        let body = rawdoc! {
            "find": self.collection.as_str(),
            "filter": { "_id": key },
            "projection": shown.clone(),
            "limit": 1,
            "singleBatch": true,
            "readConcern": { "level": level },
        };
        let command = Command { action, body, secret: "" };
        let reply = self.sender.repeat(command, until).await?;
        let found = first_batch(&reply.body, action)?.first();
        Ok(found.and_then(Bson::as_document).cloned())
    }

    /// What a lock's document matches while `owner` has the lock.
    fn held_by(&self, key: &str, owner: &OwnerToken) -> RawDocumentBuf {
        rawdoc! { "_id": key, "owner": owner.reveal(), "$expr": self.pipelines.is_live.clone() }
    }

    async fn outcome(
        &self,
        command: Command<'_>,
        until: CallDeadline,
    ) -> Result<Outcome, LockError> {
        let action = command.action;
        let Reply { body, sent_at, repeated } = self.sender.repeat(command, until).await?;
        let turn = body.get_document("value").ok().and_then(|found| self.own(found, "turn"));
        let counted = body.get_document("lastErrorObject").unwrap_or(&body);
        let matched = counted.get_i32("n");
        let matched = matched.map_err(|_| Failure::unexpected_reply().during(action))?;
        Ok(Outcome { was_held: matched == 1, sent_at, repeated, turn })
    }

    pub(crate) fn holder(&self, found: &Document) -> Result<Holder, Failure> {
        let fence = found.get_i64(FENCE).ok().and_then(|fence| u64::try_from(fence).ok());
        let times = (found.get_datetime(&self.expiry), found.get_datetime("now"));
        let (Some(fence), (Ok(expiry), Ok(now))) = (fence, times) else {
            let what = "the lock's document is not one that glock made; delete it, or use another \
                        collection or namespace";
            return Err(Failure::new(Fault::Rejected, what));
        };
        let label = found.get_str(HOLDER).unwrap_or_default();
        Ok(Holder::new(label, FencingToken::new(fence))
            .with_remaining(Some(between(*now, *expiry))))
    }
}

fn between(now: DateTime, then: DateTime) -> Duration {
    let millis = then.timestamp_millis().saturating_sub(now.timestamp_millis());
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A checked TTL is a whole number of milliseconds, and a year at most.
fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}
