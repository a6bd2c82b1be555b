//! What a row keeps of its queue, and the statements that work on it.
//!
//! `waiters` are names (`client:number`) in their order. `seen` says when each client was last seen, in
//! milliseconds since 1970. A lock that nobody holds is `reserved` for a waiter until `reserved_until`. All
//! of it is `NULL` while nobody waits. As it is in the row, its changes come one after another, each from
//! the state that the last one left.

use std::time::Duration;

use crate::{
    commands::sql::{COMMIT_ASYNC, COMMIT_DURABLE, MICROS, UNTIL, remaining_sql},
    schema::{CLIENT_CHANNEL, Schema},
};

/// For how long a lock is reserved.
pub(crate) const RESERVED: Duration = Duration::from_millis(1_500);

/// For how long a client counts as alive after its last request for the lock.
const ALIVE_MS: i64 = 5_000;

/// Milliseconds since 1970.
const NOW_MS: &str = "(date_part('epoch', clock_timestamp()) * 1000)::bigint";

fn reserved_ms() -> u128 {
    RESERVED.as_millis()
}

/// Whether the lock of row `l` is reserved. Not after the clock went back.
pub(crate) fn is_reserved() -> String {
    let reserved = reserved_ms();
    format!(
        "coalesce(l.reserved_until > clock_timestamp() \
         AND l.reserved_until <= clock_timestamp() + {reserved} * interval '1 millisecond', false)"
    )
}

/// Whether the first waiters of row `l` include one whose client is alive.
pub(crate) fn is_waited_for() -> String {
    let first = first("l.waiters", "l.seen", NOW_MS);
    format!("CASE WHEN l.waiters IS NOT NULL THEN {first} IS NOT NULL ELSE false END")
}

/// The position of the first waiter whose client is alive. One of the future was seen before the clock
/// went back.
fn first(waiters: &str, seen: &str, now: &str) -> String {
    format!(
        "(SELECT w.n::int FROM unnest({waiters}) WITH ORDINALITY w(waiter, n) \
          WHERE abs({now} - ({seen} ->> split_part(w.waiter, ':', 1))::bigint) <= {ALIVE_MS} \
          ORDER BY w.n LIMIT 1)"
    )
}

/// Notifies the client of `waiter` that it is that one's turn. Not SQL's `NULL`, but an empty text.
fn notify(waiter: &str) -> String {
    format!(
        "pg_notify('{CLIENT_CHANNEL}' || split_part({waiter}, ':', 1), \
         split_part({waiter}, ':', 2))::text"
    )
}

/// `seen` once the lock was reserved for the waiter: its client counts as alive for no longer than that
/// lasts, unless it sends a request meanwhile. So a client that is gone holds up the queue once.
fn seen_after_reservation(seen: &str, waiter: &str, now: &str) -> String {
    let back = i128::from(ALIVE_MS) - i128::try_from(reserved_ms()).unwrap_or(0);
    format!("jsonb_set({seen}, ARRAY[split_part({waiter}, ':', 1)], to_jsonb({now} - {back}))")
}

/// Passes the lock of row `l` on: reserves it for the first waiter whose client is alive. Those before it
/// go. To be set by an update that ends a hold or a reservation.
pub(crate) fn pass_on() -> String {
    let (first, reserved) = (first("l.waiters", "l.seen", "q.now"), reserved_ms());
    let seen = seen_after_reservation("l.seen", "l.waiters[p.first]", "p.now");
    format!(
        "(reserved, reserved_until, waiters, seen) = (\
           SELECT l.waiters[p.first], \
             CASE WHEN p.first IS NOT NULL \
               THEN clock_timestamp() + {reserved} * interval '1 millisecond' END, \
             p.others, CASE WHEN p.others IS NOT NULL THEN {seen} END \
           FROM (SELECT q.now, q.first, nullif(l.waiters[q.first + 1:], '{{}}') AS others \
             FROM (SELECT q.now, CASE WHEN l.waiters IS NOT NULL THEN {first} END AS first \
               FROM (SELECT {NOW_MS} AS now OFFSET 0) q OFFSET 0) q OFFSET 0) p)"
    )
}

/// For the reply of an update with [`pass_on`]: the waiter that the lock is reserved for, whose client is
/// notified unless it is `client`.
pub(crate) fn passed_on(client: &str) -> String {
    let notify = notify("l.reserved");
    format!(
        "CASE WHEN l.reserved IS NULL THEN '' \
           WHEN split_part(l.reserved, ':', 1) = {client} THEN l.reserved \
           ELSE {notify} END"
    )
}

/// $1 key, $2 owner, $3 TTL in ms, $4 holder, $5 waiter, $6 its client. One row: whether it
/// is granted; the fence; for how many ms the lock is held or reserved; whether the waiter is the first in
/// the queue; the waiter that the lock is reserved for, if it is this client's, else an empty text.
///
/// The row is locked when the decision is made, so it is made once.
pub(crate) fn enter(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let (first, reserved) = (first("b.waiters", "b.seen", "b.now"), reserved_ms());
    let (is_reserved, turn) = (is_reserved(), "d.waiters[d.first]");
    let (notify, seen) = (notify(turn), seen_after_reservation("d.seen", turn, "d.now"));
    let left = left(schema);
    format!(
        "INSERT INTO {table} AS l ({key}, owner, fence, {expiry}, holder, waited) \
         SELECT $1, $2, {MICROS}, {UNTIL}, $4, false WHERE {COMMIT_DURABLE} AND {bounded} \
         ON CONFLICT ({key}) DO UPDATE SET \
           (owner, fence, {expiry}, holder, waited, reserved, reserved_until, waiters, seen) = (\
             SELECT CASE WHEN d.granted THEN $2 WHEN d.held THEN l.owner END, \
               CASE WHEN d.granted AND NOT d.again \
                 THEN greatest(l.fence + 1, {MICROS}) ELSE l.fence END, \
               CASE WHEN d.granted THEN {UNTIL} ELSE l.{expiry} END, \
               CASE WHEN d.granted THEN $4 ELSE l.holder END, \
               l.waited AND (l.owner IS NOT NULL OR NOT d.granted), \
               CASE WHEN d.granted THEN NULL WHEN d.taken THEN l.reserved \
                 WHEN split_part({turn}, ':', 1) = $6 THEN {turn} \
                 ELSE coalesce(nullif({notify}, ''), {turn}) END, \
               CASE WHEN d.granted THEN NULL WHEN d.taken THEN l.reserved_until \
                 ELSE clock_timestamp() + {reserved} * interval '1 millisecond' END, \
               CASE WHEN d.granted THEN d.others WHEN d.taken THEN d.waiters \
                 ELSE nullif(d.waiters[d.first + 1:], '{{}}') END, \
               CASE WHEN d.granted AND d.others IS NULL THEN NULL \
                 WHEN d.granted OR d.taken THEN d.seen ELSE {seen} END \
             FROM (SELECT c.*, nullif(array_remove(c.waiters, $5), '{{}}') AS others, \
                 c.again OR coalesce(CASE WHEN c.taken THEN NOT c.held AND l.reserved = $5 \
                   ELSE c.waiters[c.first] = $5 END, false) AS granted \
               FROM (SELECT b.*, b.held AND l.owner = $2 AS again, b.held OR b.reserved AS taken, \
                   CASE WHEN NOT (b.held OR b.reserved) THEN {first} END AS first \
                 FROM (SELECT {NOW_MS} AS now, {is_reserved} AS reserved, \
                     l.owner IS NOT NULL AND l.{expiry} > clock_timestamp() AS held, \
                     CASE WHEN $5 = ANY (l.waiters) THEN l.waiters \
                       ELSE coalesce(l.waiters, '{{}}') || $5 END AS waiters, \
                     coalesce(l.seen, '{{}}') || jsonb_build_object($6, {NOW_MS}) AS seen \
                   OFFSET 0) b OFFSET 0) c OFFSET 0) d \
             WHERE d.granted OR {COMMIT_ASYNC}) \
         RETURNING coalesce(l.owner = $2, false), l.fence, \
           {left}, \
           coalesce(l.waiters[1] = $5, false), \
           CASE WHEN l.owner IS NULL AND split_part(l.reserved, ':', 1) = $6 \
             THEN l.reserved ELSE '' END"
    )
}

/// $1 key, $2 waiter. Takes it out of the queue. One row: whether the lock is reserved for it, for which
/// see [`forgo`]. The row is locked whether the waiter is in the queue or not, so that the request which
/// puts it there comes before, if the server has begun with it.
pub(crate) fn leave(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, .. } = schema;
    format!(
        "UPDATE {table} l SET waiters = nullif(array_remove(l.waiters, $2), '{{}}'), \
           seen = CASE WHEN array_remove(l.waiters, $2) <> '{{}}' THEN l.seen END \
         WHERE l.{key} = $1 AND {COMMIT_ASYNC} AND {bounded} \
         RETURNING coalesce(l.owner IS NULL AND l.reserved = $2, false)"
    )
}

/// $1 key, $2 waiter, $3 its client. Passes on a lock that is reserved for the waiter. One row if it was:
/// the waiter of this client that it is reserved for now.
pub(crate) fn forgo(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, .. } = schema;
    let (pass_on, passed_on) = (pass_on(), passed_on("$3"));
    format!(
        "UPDATE {table} l SET {pass_on} \
         WHERE l.{key} = $1 AND l.owner IS NULL AND l.reserved = $2 AND {COMMIT_ASYNC} AND {bounded} \
         RETURNING {passed_on}"
    )
}

/// $1 keys, $2 client. Notes that the client is alive. One row of arrays, with an element for each lock
/// whose queue has the client or that is reserved for it: key; waiter that the lock is reserved for, if it
/// is this client's; likewise the first one whose client is alive; for how many ms the lock is held or
/// reserved; the numbers of this client's waiters.
///
/// The rows are locked in the order of their keys, so that no two heartbeats wait for each other.
pub(crate) fn heartbeat(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, .. } = schema;
    let first = first("l.waiters", "l.seen", NOW_MS);
    let (is_reserved, left) = (is_reserved(), left(schema));
    format!(
        "WITH locked AS MATERIALIZED (\
           SELECT l.{key} AS key FROM {table} l \
           WHERE l.{key} = ANY ($1) AND {COMMIT_ASYNC} AND {bounded} \
           ORDER BY l.{key} FOR NO KEY UPDATE), \
         found AS (\
           UPDATE {table} l SET seen = CASE WHEN l.seen ? $2 \
             THEN l.seen || jsonb_build_object($2, {NOW_MS}) ELSE l.seen END \
           FROM locked WHERE l.{key} = locked.key \
             AND (l.seen ? $2 OR l.owner IS NULL AND split_part(l.reserved, ':', 1) = $2) \
           RETURNING l.{key} AS key, \
             CASE WHEN l.owner IS NULL AND {is_reserved} THEN l.reserved ELSE '' END AS turn, \
             coalesce(l.waiters[{first}], '') AS first, {left} AS left_ms, \
             array_to_string(ARRAY(SELECT split_part(w, ':', 2) FROM unnest(l.waiters) w \
               WHERE split_part(w, ':', 1) = $2), ',') AS places) \
         SELECT coalesce(array_agg(key), '{{}}'), coalesce(array_agg(turn), '{{}}'), \
           coalesce(array_agg(first), '{{}}'), coalesce(array_agg(left_ms), '{{}}'), \
           coalesce(array_agg(places), '{{}}') FROM found"
    )
}

/// For how many milliseconds the lock of row `l` is held or reserved.
fn left(schema: &Schema) -> String {
    let (held, reserved) = (remaining_sql(&schema.expiry), remaining_sql("reserved_until"));
    let is_reserved = is_reserved();
    format!(
        "greatest(CASE WHEN l.owner IS NOT NULL THEN {held} WHEN {is_reserved} THEN {reserved} \
         ELSE 0 END, 0)"
    )
}
