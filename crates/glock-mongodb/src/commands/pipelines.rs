//! `Pipelines`: the constant parts of the commands.

use mongodb::bson::{Bson, Document, RawArrayBuf, RawDocumentBuf, doc};

use crate::{
    commands::expressions::{
        client_of, field, first_alive, first_alive_of, grant, is_held, is_live, is_reserved,
        is_waited_for, left, own_turn, pass_on, reserve, seen_now, waiters, with_queue, without,
    },
    schema::{FENCE, HOLDER, ID, OWNER, RESERVED, SEEN, Schema, WAITERS},
};

/// The constant parts of the commands, built once a client. Keys, owner tokens, labels and waiters are
/// passed as variables, so that nothing in them is read as a field or an operator.
///
/// The time in all of them is `$$NOW`: the server's, when the command began. The command takes effect
/// later than that, so a lease is never taken over before it has run out.
pub(crate) struct Pipelines {
    pub(crate) acquire: RawArrayBuf,
    pub(crate) acquired: RawDocumentBuf,
    pub(crate) renew: RawArrayBuf,
    pub(crate) release: RawArrayBuf,
    pub(crate) is_live: RawDocumentBuf,
    pub(crate) inspected: RawDocumentBuf,
    /// What a caller sees that sleeps until the lock may be free.
    pub(crate) looked: RawDocumentBuf,
    pub(crate) enter: RawArrayBuf,
    pub(crate) entered: RawDocumentBuf,
    pub(crate) leave: RawArrayBuf,
    /// The waiter of this client whose turn it is.
    pub(crate) turn: RawDocumentBuf,
    /// The locks that this client waits for, or that are reserved for it.
    pub(crate) is_waiting: RawArrayBuf,
    pub(crate) found: RawDocumentBuf,
    pub(crate) keep_alive: RawDocumentBuf,
}

impl Pipelines {
    /// Of the client with this name.
    pub(crate) fn new(schema: &Schema, client: &str) -> Self {
        let expiry = &*schema.expiry;
        let shown = doc! { FENCE: 1, HOLDER: 1, expiry: 1, "now": "$$NOW" };
        let with = |more: Document| raw(&shown.clone().into_iter().chain(more).collect());
        let has_owner = doc! { "$eq": [{ "$type": field(OWNER) }, "string"] };
        let is_granted = doc! { "$eq": [field(OWNER), "$$owner"] };
        let turn = own_turn(expiry, client);
        Self {
            acquire: pipeline(&acquire(expiry)),
            acquired: with(doc! { "granted": &is_granted, "held": is_held(expiry) }),
            renew: pipeline(&renew(expiry)),
            release: pipeline(&release()),
            is_live: raw(&is_live(expiry)),
            inspected: with(doc! { "held": { "$and": [has_owner, is_live(expiry)] } }),
            looked: raw(&looked(expiry)),
            enter: pipeline(&enter(expiry, client)),
            entered: with(doc! {
                "granted": is_granted,
                "first": { "$eq": [{ "$first": waiters() }, "$$waiter"] },
                "left": left(expiry),
                "turn": &turn,
            }),
            leave: pipeline(&leave(expiry)),
            turn: raw(&doc! { "turn": &turn }),
            is_waiting: is_waiting(client),
            found: raw(&found(expiry, client, turn)),
            keep_alive: raw(&doc! { "$currentDate": { seen_field(client): true } }),
        }
    }
}

/// The field that says when the client was last seen.
pub(crate) fn seen_field(client: &str) -> String {
    format!("{SEEN}.{client}")
}

/// The document is as `then` says if it is glock's: if it has these types; or if it is new, and has
/// nothing but its `_id`. Any other is left as it is, which writes nothing.
fn if_ours(expiry: &str, then: impl Into<Bson>) -> Document {
    let is_ours = doc! { "$or": [
        { "$and": [
            { "$eq": [{ "$type": field(FENCE) }, "long"] },
            { "$eq": [{ "$type": field(expiry) }, "date"] },
        ] },
        { "$eq": ["$$ROOT", { ID: field(ID) }] },
    ] };
    doc! { "$replaceWith": { "$cond": [is_ours, then.into(), "$$ROOT"] } }
}

/// The document once the lock is granted. The token is at least the clock, in microseconds, so that it
/// grows even if the document was lost.
fn granted(expiry: &str) -> Bson {
    let fence = doc! { "$max": [
        { "$add": [{ "$ifNull": [field(FENCE), 0_i64] }, 1_i64] },
        { "$multiply": [{ "$toLong": "$$NOW" }, 1000_i64] },
    ] };
    grant(doc! {
        OWNER: "$$owner",
        FENCE: fence,
        expiry: { "$add": ["$$NOW", "$$ttl"] },
        HOLDER: "$$holder",
    })
}

/// A caller without a place is refused while the lock is held or reserved, and while a waiter whose
/// client is alive is in the queue. A refused acquire writes nothing.
fn acquire(expiry: &str) -> Document {
    let is_refused = doc! { "$or": [is_held(expiry), is_reserved(), is_waited_for()] };
    if_ours(expiry, doc! { "$cond": [is_refused, "$$ROOT", granted(expiry)] })
}

/// Never to an earlier time: the old lease stays valid until its own deadline, and waiters sleep until
/// that time.
fn renew(expiry: &str) -> Document {
    doc! { "$set": {
        expiry: { "$max": [field(expiry), { "$add": ["$$NOW", "$$ttl"] }] },
    } }
}

/// Without a queue, a release changes the owner and nothing else.
fn release() -> Document {
    let free = doc! { "$mergeObjects": ["$$ROOT", { OWNER: Bson::Null }] };
    doc! { "$replaceWith": { "$cond": [{ "$isArray": [field(WAITERS)] }, pass_on(), free] } }
}

/// The lock is granted if it is reserved for the waiter, or free and the waiter is the first whose client
/// is alive. Otherwise the waiter is in the queue, and a lock that is free is reserved for the first.
fn enter(expiry: &str, client: &str) -> Document {
    let joined = doc! { "$cond": [
        { "$in": ["$$waiter", waiters()] },
        waiters(),
        { "$concatArrays": [waiters(), ["$$waiter"]] },
    ] };
    // The one that may have the lock: none while it is held.
    let next = doc! { "$switch": {
        "branches": [
            { "case": "$$held", "then": Bson::Null },
            { "case": "$$reserved", "then": field(RESERVED) },
        ],
        "default": first_alive_of("$$waiters", "$$seen"),
    } };
    let queue = Bson::from("$$waiters");
    let others = without(&queue, "$$waiter");
    let outcome = doc! { "$switch": {
        "branches": [
            {
                "case": { "$eq": ["$$next", "$$waiter"] },
                "then": with_queue(granted(expiry), others, "$$seen"),
            },
            {
                "case": { "$or": ["$$held", "$$reserved"] },
                "then": { "$mergeObjects": ["$$ROOT", { WAITERS: &queue, SEEN: "$$seen" }] },
            },
        ],
        "default": reserve(&queue, "$$seen", "$$next"),
    } };
    let state = doc! {
        "held": is_held(expiry),
        "reserved": is_reserved(),
        "waiters": joined,
        "seen": seen_now(client),
    };
    let outcome = doc! { "$let": { "vars": { "next": next }, "in": outcome } };
    if_ours(expiry, doc! { "$let": { "vars": state, "in": outcome } })
}

/// The waiter is no longer in the queue. A lock that is reserved for it passes on.
fn leave(expiry: &str) -> Document {
    let has_turn = doc! { "$and": [
        { "$not": [is_held(expiry)] },
        { "$eq": [field(RESERVED), "$$waiter"] },
    ] };
    let left = with_queue("$$ROOT", without(waiters(), "$$waiter"), field(SEEN));
    doc! { "$replaceWith": { "$cond": [has_turn, pass_on(), left] } }
}

/// What a caller without a place sees: for how many milliseconds the lock is held or reserved, and whether
/// a waiter is before it.
fn looked(expiry: &str) -> Document {
    doc! { "left": left(expiry), "waited_for": is_waited_for() }
}

fn is_waiting(client: &str) -> RawArrayBuf {
    let mut either = RawArrayBuf::new();
    either.push(raw(&doc! { seen_field(client): { "$exists": true } }));
    either.push(raw(&doc! { RESERVED: of_client(client) }));
    either
}

/// What the names of a client's waiters match: a semicolon comes after a colon.
pub(crate) fn of_client(client: &str) -> Document {
    doc! { "$gte": format!("{client}:"), "$lt": format!("{client};") }
}

/// What a heartbeat finds: the waiter of this client whose turn it is; the first one in the queue whose
/// client is alive; for how many milliseconds the lock is held or reserved; this client's waiters; how
/// many milliseconds ago it was seen.
fn found(expiry: &str, client: &str, turn: Document) -> Document {
    let own = doc! { "$filter": {
        "input": waiters(),
        "as": "each",
        "cond": { "$eq": [client_of("$$each"), client] },
    } };
    doc! {
        "turn": turn,
        "first": first_alive(),
        "left": left(expiry),
        "places": own,
        "age": { "$subtract": ["$$NOW", field(&seen_field(client))] },
    }
}

fn pipeline(stage: &Document) -> RawArrayBuf {
    let mut pipeline = RawArrayBuf::new();
    pipeline.push(raw(stage));
    pipeline
}

/// A document that glock has written itself: it has no NUL in a name, which alone could fail.
pub(crate) fn raw(document: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document).unwrap_or_default()
}
