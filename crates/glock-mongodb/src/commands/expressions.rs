//! Expressions on a lock's document that several commands share.
//!
//! `waiters` are names (`client:number`) in their order. `seen` says when each of their clients was last
//! seen. A lock without a holder is `reserved` for a waiter until `reserved_until`. A document without waiters
//! has none of these fields. As they are in the document, their changes come one after another, each from
//! the state that the last one left.

use std::time::Duration;

use glock_core::toolkit::{ALIVE_FOR, RESERVED_FOR};
use mongodb::bson::{Bson, Document, doc};

use crate::schema::{OWNER, RESERVED, RESERVED_UNTIL, SEEN, WAITERS};

/// By how much a command may have begun before the one that made a reservation, and still come after it.
const BEGAN_BEFORE: Duration = Duration::from_secs(5);

/// No value: a field that is set to it is removed.
const REMOVED: &str = "$$REMOVE";

/// As the server counts.
fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn field(name: &str) -> String {
    format!("${name}")
}

/// Whether the lock has an owner whose lease has not run out.
pub(crate) fn is_held(expiry: &str) -> Document {
    doc! { "$and": [
        { "$ne": [{ "$ifNull": [field(OWNER), Bson::Null] }, Bson::Null] },
        is_live(expiry),
    ] }
}

/// Whether the last lease has not run out.
pub(crate) fn is_live(expiry: &str) -> Document {
    doc! { "$gt": [field(expiry), "$$NOW"] }
}

/// Whether the lock is reserved. Not after the clock went back by more than some seconds.
pub(crate) fn is_reserved() -> Document {
    let latest = doc! { "$add": ["$$NOW", millis(RESERVED_FOR + BEGAN_BEFORE)] };
    doc! { "$and": [
        { "$gt": [field(RESERVED_UNTIL), "$$NOW"] },
        { "$lte": [field(RESERVED_UNTIL), latest] },
    ] }
}

/// The waiter that the lock is reserved for, if it has no holder and the waiter is this client's; else an
/// empty text.
pub(crate) fn own_turn(expiry: &str, client: &str) -> Document {
    let is_own = doc! { "$eq": [client_of(&field(RESERVED)), client] };
    let is_turn = doc! { "$and": [{ "$not": [is_held(expiry)] }, is_reserved(), is_own] };
    doc! { "$cond": [is_turn, field(RESERVED), ""] }
}

/// For how many milliseconds the lock is held or reserved.
pub(crate) fn left(expiry: &str) -> Document {
    let held_for = doc! { "$subtract": [field(expiry), "$$NOW"] };
    let reserved_for = doc! { "$subtract": [field(RESERVED_UNTIL), "$$NOW"] };
    let unless_held = doc! { "$cond": [is_reserved(), reserved_for, 0_i64] };
    doc! { "$cond": [is_held(expiry), held_for, unless_held] }
}

/// The queue, also where there is none.
pub(crate) fn waiters() -> Document {
    doc! { "$ifNull": [field(WAITERS), []] }
}

/// When each client was last seen, also where there is no queue.
fn seen() -> Document {
    doc! { "$ifNull": [field(SEEN), {}] }
}

/// When each client was last seen, and `client` now.
pub(crate) fn seen_now(client: &str) -> Document {
    doc! { "$mergeObjects": [field(SEEN), { client: "$$NOW" }] }
}

/// The client of a waiter.
pub(crate) fn client_of(waiter: &str) -> Document {
    doc! { "$first": { "$split": [waiter, ":"] } }
}

/// The first one in the document's queue whose client is alive, or null.
pub(crate) fn first_alive() -> Document {
    first_alive_of(waiters(), seen())
}

/// The first of `waiters` whose client is alive, or null. One of the future was seen before the clock
/// went back, or by a command that began later.
pub(crate) fn first_alive_of(waiters: impl Into<Bson>, seen: impl Into<Bson>) -> Document {
    let age = doc! { "$abs": { "$subtract": ["$$NOW", "$$each.v"] } };
    let alive = doc! { "$filter": {
        "input": { "$objectToArray": seen.into() },
        "as": "each",
        "cond": { "$lte": [age, millis(ALIVE_FOR)] },
    } };
    let first = doc! { "$first": { "$filter": {
        "input": waiters.into(),
        "as": "each",
        "cond": { "$in": [client_of("$$each"), "$$alive.k"] },
    } } };
    doc! { "$let": {
        "vars": { "alive": alive },
        "in": { "$ifNull": [first, Bson::Null] },
    } }
}

/// Whether a waiter whose client is alive is in the queue.
pub(crate) fn is_waited_for() -> Document {
    doc! { "$and": [
        { "$isArray": [field(WAITERS)] },
        { "$ne": [first_alive(), Bson::Null] },
    ] }
}

/// `waiters` without `waiter`.
pub(crate) fn without(waiters: impl Into<Bson>, waiter: &str) -> Document {
    doc! { "$filter": {
        "input": waiters.into(),
        "as": "each",
        "cond": { "$ne": ["$$each", waiter] },
    } }
}

/// The document once its queue is `waiters`. Of clients without a waiter it keeps nothing.
pub(crate) fn with_queue(
    document: impl Into<Bson>,
    waiters: impl Into<Bson>,
    seen: impl Into<Bson>,
) -> Document {
    let kept = doc! { "$filter": {
        "input": { "$objectToArray": seen.into() },
        "as": "each",
        "cond": { "$in": ["$$each.k", "$$clients"] },
    } };
    let clients = doc! { "$map": { "input": "$$queue", "as": "each", "in": client_of("$$each") } };
    let seen = doc! { "$let": {
        "vars": { "clients": clients },
        "in": { "$arrayToObject": kept },
    } };
    let unless_empty =
        |value: Bson| Bson::from(doc! { "$cond": [{ "$eq": ["$$queue", []] }, REMOVED, value] });
    let queue = [(WAITERS, unless_empty("$$queue".into())), (SEEN, unless_empty(seen.into()))];
    doc! { "$let": { "vars": { "queue": waiters.into() }, "in": with_fields(document, queue) } }
}

/// The document once the lock is free, and reserved for `first`, who is one of `waiters`: those before it
/// go. Its client counts as alive for no longer than the reservation lasts, unless it sends a request
/// meanwhile; so a client that is gone holds up the queue once.
pub(crate) fn reserve(waiters: &Bson, seen: impl Into<Bson>, first: &str) -> Document {
    let behind = doc! { "$slice": [
        waiters,
        { "$add": [{ "$indexOfArray": [waiters, first] }, 1] },
        { "$size": waiters },
    ] };
    let seen_then = doc! { "$subtract": ["$$NOW", millis(ALIVE_FOR) - millis(RESERVED_FOR)] };
    let seen_then = doc! { "$arrayToObject": [[{ "k": client_of(first), "v": seen_then }]] };
    let seen = doc! { "$mergeObjects": [seen.into(), seen_then] };
    let until = doc! { "$add": ["$$NOW", millis(RESERVED_FOR)] };
    let reserved = [(OWNER, Bson::Null), (RESERVED, first.into()), (RESERVED_UNTIL, until.into())];
    with_queue(with_fields("$$ROOT", reserved), behind, seen)
}

/// The document once the lock is free, and reserved for the first waiter whose client is alive.
pub(crate) fn pass_on() -> Document {
    let free = [
        (OWNER, Bson::Null),
        (RESERVED, REMOVED.into()),
        (RESERVED_UNTIL, REMOVED.into()),
        (WAITERS, REMOVED.into()),
        (SEEN, REMOVED.into()),
    ];
    doc! { "$let": {
        "vars": { "first": first_alive() },
        "in": { "$cond": [
            { "$eq": ["$$first", Bson::Null] },
            with_fields("$$ROOT", free),
            reserve(&waiters().into(), seen(), "$$first"),
        ] },
    } }
}

/// The document once it has the fields of a grant, and is not reserved.
pub(crate) fn grant(fields: Document) -> Bson {
    let granted = doc! { "$mergeObjects": ["$$ROOT", fields] };
    with_fields(granted, [(RESERVED, REMOVED.into()), (RESERVED_UNTIL, REMOVED.into())])
}

fn with_fields<const N: usize>(document: impl Into<Bson>, fields: [(&str, Bson); N]) -> Bson {
    fields.into_iter().fold(document.into(), |input, (name, value)| {
        Bson::from(doc! { "$setField": { "field": name, "input": input, "value": value } })
    })
}
