//! `Commands`: the commands that glock sends, one an operation, and their replies.

use std::{sync::Weak, time::Duration};

use glock_core::{
    Action, Fault, FencingToken, Holder, LockError, OwnerToken, toolkit::CallDeadline,
};
use mongodb::bson::{Bson, DateTime, Document, RawArrayBuf, RawDocumentBuf, doc, rawdoc};
use tokio::time::Instant;

use crate::{
    client::{Command, Reply, Sender},
    error::Failure,
    schema::{FENCE, HOLDER, ID, OWNER, Schema},
};

/// The commands for one collection. Their constant parts are built once. Keys, owner tokens and labels
/// are passed as variables, so that nothing in them is read as a field or an operator.
///
/// The time in all of them is `$$NOW`: the server's, when the command began. The command takes effect
/// later than that, so a lease is never taken over before it has run out.
pub(crate) struct Commands {
    sender: Sender,
    pub(crate) collection: String,
    expiry: String,
    acquire: RawArrayBuf,
    acquired: RawDocumentBuf,
    renew: RawArrayBuf,
    pub(crate) release: RawDocumentBuf,
    pub(crate) is_live: RawDocumentBuf,
    pub(crate) inspected: RawDocumentBuf,
}

/// What an acquire asks for.
pub(crate) struct AcquireRequest<'a> {
    pub(crate) key: &'a str,
    pub(crate) owner: &'a OwnerToken,
    pub(crate) ttl: Duration,
    pub(crate) holder: &'a str,
}

/// The reply to an acquire.
pub(crate) enum AcquireReply {
    Granted {
        fence: FencingToken,
        /// The instant just before the command was sent.
        sent_at: Instant,
    },
    Held(Holder),
}

/// What a command that names an owner did.
pub(crate) struct Outcome {
    /// Whether the owner had the lock.
    pub(crate) was_held: bool,
    /// The instant just before the command was sent.
    pub(crate) sent_at: Instant,
    /// Whether an earlier copy of it got no reply.
    pub(crate) repeated: bool,
}

/// A document is glock's if it has these types; or it is new, and has nothing but its `_id`.
fn is_ours(expiry: &str) -> Document {
    doc! { "$or": [
        { "$and": [
            { "$eq": [{ "$type": field(FENCE) }, "long"] },
            { "$eq": [{ "$type": field(expiry) }, "date"] },
        ] },
        { "$eq": ["$$ROOT", { ID: field(ID) }] },
    ] }
}

impl Commands {
    pub(crate) fn new(sender: Sender, schema: &Schema) -> Self {
        let (collection, expiry) = (schema.collection.clone(), schema.expiry.clone());
        let live = doc! { "$gt": [field(&expiry), "$$NOW"] };
        let is_free = doc! { "$or": [
            { "$eq": [{ "$ifNull": [field(OWNER), Bson::Null] }, Bson::Null] },
            { "$not": [&live] },
        ] };
        // The token is at least the clock, in microseconds, so that it grows even if the document was lost.
        let fence = doc! { "$max": [
            { "$add": [{ "$ifNull": [field(FENCE), 0_i64] }, 1_i64] },
            { "$multiply": [{ "$toLong": "$$NOW" }, 1000_i64] },
        ] };
        let granted = doc! {
            OWNER: "$$owner",
            FENCE: fence,
            &expiry: { "$add": ["$$NOW", "$$ttl"] },
            HOLDER: "$$holder",
        };
        // A refused acquire leaves the document as it is, which writes nothing.
        let acquire = doc! { "$replaceWith": { "$cond": [
            { "$and": [is_ours(&expiry), is_free] },
            { "$mergeObjects": ["$$ROOT", granted] },
            "$$ROOT",
        ] } };
        // Never to an earlier time: the old lease stays valid until its own deadline, and waiters sleep
        // until that time.
        let renew = doc! { "$set": {
            &expiry: { "$max": [field(&expiry), { "$add": ["$$NOW", "$$ttl"] }] },
        } };
        let shown = doc! { FENCE: 1, HOLDER: 1, &expiry: 1, "now": "$$NOW" };
        let with = |more: Document| shown.clone().into_iter().chain(more).collect::<Document>();
        let held = doc! { "$eq": [{ "$type": field(OWNER) }, "string"] };
        Self {
            sender,
            acquire: pipeline(&acquire),
            acquired: raw(&with(doc! { "granted": { "$eq": [field(OWNER), "$$owner"] } })),
            renew: pipeline(&renew),
            release: rawdoc! { "$set": { "owner": null } },
            is_live: raw(&live),
            inspected: raw(&with(doc! { "held": { "$and": [held, live] } })),
            collection,
            expiry,
        }
    }

    pub(crate) fn sender(&self) -> &Sender {
        &self.sender
    }

    /// Takes the lock if it is free: one `findAndModify`, which makes the document if there is none.
    pub(crate) async fn acquire(
        &self,
        request: AcquireRequest<'_>,
        until: CallDeadline,
        caller: &Weak<()>,
    ) -> Result<AcquireReply, Failure> {
        let AcquireRequest { key, owner, ttl, holder } = request;
        let body = rawdoc! {
            "findAndModify": self.collection.as_str(),
            "query": { "_id": key },
            "update": self.acquire.clone(),
            "fields": self.acquired.clone(),
            "new": true,
            "upsert": true,
            "let": {
                "owner": owner.reveal(),
                "ttl": millis(ttl),
                "holder": { "$literal": holder },
            },
            "writeConcern": { "w": "majority", "j": true },
        };
        let command = Command { action: Action::Acquire, body, secret: owner.reveal() };
        let reply = self.sender.once(command, until, caller).await?;
        let found = reply.body.get_document("value").map_err(|_| Failure::unexpected_reply())?;
        if found.get_str(ID).ok() != Some(key) {
            let what = "the collection's collation makes two lock ids one; name another collection";
            return Err(Failure::new(Fault::Rejected, what));
        }
        let holder = self.holder(found)?;
        if found.get_bool("granted").unwrap_or(false) {
            return Ok(AcquireReply::Granted { fence: holder.fence, sent_at: reply.sent_at });
        }
        Ok(AcquireReply::Held(holder))
    }

    /// Renews the lease.
    pub(crate) async fn renew(
        &self,
        key: &str,
        owner: &OwnerToken,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Outcome, LockError> {
        let variables = rawdoc! { "ttl": millis(ttl) };
        let update = rawdoc! { "q": self.held_by(key, owner), "u": self.renew.clone() };
        self.update(Action::Renew, update, variables, owner.reveal(), until).await
    }

    /// Frees the lock if `owner` has it.
    pub(crate) async fn release(
        &self,
        key: &str,
        owner: &OwnerToken,
        until: CallDeadline,
    ) -> Result<Outcome, LockError> {
        let update = rawdoc! { "q": self.held_by(key, owner), "u": self.release.clone() };
        self.update(Action::Release, update, RawDocumentBuf::new(), owner.reveal(), until).await
    }

    /// Who has the lock. Reads what a majority of the members has, or, for a waiter, what the primary has.
    pub(crate) async fn inspect(
        &self,
        action: Action,
        key: &str,
        until: CallDeadline,
    ) -> Result<Option<Holder>, LockError> {
        let level = if action == Action::Wait { "local" } else { "majority" };
        let body = rawdoc! {
            "find": self.collection.as_str(),
            "filter": { "_id": key },
            "projection": self.inspected.clone(),
            "limit": 1,
            "singleBatch": true,
            "readConcern": { "level": level },
        };
        let command = Command { action, body, secret: "" };
        let reply = self.sender.repeat(command, until).await?;
        let batch =
            reply.body.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let batch = batch.map_err(|_| Failure::unexpected_reply().during(action))?;
        let found = batch.first().and_then(Bson::as_document);
        let held = found.filter(|found| found.get_bool("held").unwrap_or(false));
        let holder = held.map(|held| self.holder(held)).transpose();
        holder.map_err(|failure| failure.during(action))
    }

    /// What a lock's document matches while `owner` has the lock.
    fn held_by(&self, key: &str, owner: &OwnerToken) -> RawDocumentBuf {
        rawdoc! { "_id": key, "owner": owner.reveal(), "$expr": self.is_live.clone() }
    }

    pub(crate) async fn update(
        &self,
        action: Action,
        update: RawDocumentBuf,
        variables: RawDocumentBuf,
        secret: &str,
        until: CallDeadline,
    ) -> Result<Outcome, LockError> {
        let body = rawdoc! {
            "update": self.collection.as_str(),
            "updates": [update],
            "let": variables,
            "writeConcern": { "w": "majority", "j": true },
        };
        let command = Command { action, body, secret };
        let Reply { body, sent_at, repeated } = self.sender.repeat(command, until).await?;
        let matched = body.get_i32("n");
        let matched = matched.map_err(|_| Failure::unexpected_reply().during(action))?;
        Ok(Outcome { was_held: matched == 1, sent_at, repeated })
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

fn field(name: &str) -> String {
    format!("${name}")
}

fn pipeline(stage: &Document) -> RawArrayBuf {
    let mut pipeline = RawArrayBuf::new();
    pipeline.push(raw(stage));
    pipeline
}

/// A document that glock has written itself: it has no NUL in a name, which alone could fail.
fn raw(document: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document).unwrap_or_default()
}
