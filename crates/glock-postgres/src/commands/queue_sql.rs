//! What a row keeps of its queue, and the statements that work on it.
//!
//! `waiters` are names (`client:number`) in their order. `seen` says when each client was last seen, in
//! milliseconds since 1970, and `awaited_until` until when the one that was seen last counts as alive. A
//! lock without a holder is `reserved` for a waiter until `reserved_until`. A row without waiters has `NULL`
//! in all of these columns. As they are in the row, their changes come one after another, each from the
//! state that the last one left.
//!
//! What every release and every acquire evaluates is made of plain expressions: a subquery costs the
//! server ten microseconds, even one that it does not run.

use std::time::Duration;

use glock_core::toolkit::{ALIVE_FOR, RESERVED_FOR};

use crate::{
    commands::sql::{COMMIT_ASYNC, COMMIT_DURABLE, MICROS, UNTIL, remaining_sql},
    schema::Schema,
};

/// With a client's name behind it, the channel on which that client is notified.
pub(crate) const CLIENT_CHANNEL: &str = "glock:";

/// After how long a client is forgotten.
const FORGOTTEN: Duration = Duration::from_mins(1);

/// Milliseconds since 1970.
const NOW_MS: &str = "(date_part('epoch', clock_timestamp()) * 1000)::bigint";

/// So long from now.
fn after(time: Duration) -> String {
    format!("clock_timestamp() + interval '{} milliseconds'", time.as_millis())
}

/// Whether the lock of row `l` is reserved. Not after the clock went back.
pub(crate) fn is_reserved() -> String {
    let latest = after(RESERVED_FOR);
    format!(
        "coalesce(l.reserved_until > clock_timestamp() AND l.reserved_until <= {latest}, false)"
    )
}

/// Whether row `l` has waiters, of which a client is alive as far as is known. Not after the clock went back
/// by more than a minute.
///
/// The same throughout a statement, which may have waited for the row meanwhile.
pub(crate) fn is_awaited() -> String {
    "coalesce(l.awaited_until > statement_timestamp() \
     AND l.awaited_until < statement_timestamp() + interval '1 minute', false)"
        .into()
}

/// Whether the client of `waiter` is alive: it was seen some seconds ago at most, and since row `l` was
/// reserved for one of its waiters in vain. So a client that is gone holds up the queue once. One that was
/// seen in the future was seen before the clock went back.
fn is_alive(waiter: &str, seen: &str, now: &str) -> String {
    let (alive, reserved) = (ALIVE_FOR.as_millis(), RESERVED_FOR.as_millis());
    let seen = format!("({seen} ->> split_part({waiter}, ':', 1))::bigint");
    format!(
        "abs({now} - {seen}) <= {alive} \
         AND (l.reserved_until IS NULL OR l.reserved_until > clock_timestamp() \
           OR split_part(l.reserved, ':', 1) <> split_part({waiter}, ':', 1) \
           OR {seen} > date_part('epoch', l.reserved_until) * 1000 - {reserved})"
    )
}

/// The position of the first waiter whose client is alive.
fn first(waiters: &str, seen: &str, now: &str) -> String {
    let is_alive = is_alive("w.waiter", seen, now);
    format!(
        "(SELECT w.n::int FROM unnest({waiters}) WITH ORDINALITY w(waiter, n) \
          WHERE {is_alive} ORDER BY w.n LIMIT 1)"
    )
}

/// Notifies the client of `waiter` that it is that one's turn. Not SQL's `NULL`, but an empty text.
fn notify(waiter: &str) -> String {
    format!(
        "pg_notify('{CLIENT_CHANNEL}' || split_part({waiter}, ':', 1), \
         split_part({waiter}, ':', 2))::text"
    )
}

/// Passes the lock of row `l` on: reserves it for the first waiter. To be set by an update that ends a hold
/// or a reservation.
pub(crate) fn pass_on() -> String {
    let (is_awaited, has_others) = (is_awaited(), "cardinality(l.waiters) > 1");
    let until = after(RESERVED_FOR);
    format!(
        "reserved = CASE WHEN {is_awaited} THEN l.waiters[1] END, \
         reserved_until = CASE WHEN {is_awaited} THEN {until} END, \
         waiters = CASE WHEN {is_awaited} AND {has_others} THEN l.waiters[2:] END, \
         seen = CASE WHEN {is_awaited} AND {has_others} THEN l.seen END, \
         awaited_until = CASE WHEN {is_awaited} AND {has_others} THEN l.awaited_until END"
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

/// $1 key, $2 owner, $3 TTL in ms, $4 holder, $5 waiter, $6 its client. One row: whether it is granted; the
/// fence; for how many ms the lock is held or reserved; whether the waiter is the first in the queue; the
/// waiter that the lock is reserved for, if it is this client's, else an empty text.
///
/// The row is locked when the decision is made, so it is made once.
pub(crate) fn enter(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let first = first("b.waiters", "b.seen", "b.now");
    let (is_reserved, turn) = (is_reserved(), "d.waiters[d.first]");
    let (notify, left) = (notify(turn), left(schema));
    let (reserved_until, awaited_until) = (after(RESERVED_FOR), after(ALIVE_FOR));
    format!(
        "INSERT INTO {table} AS l ({key}, owner, fence, {expiry}, holder, waited) \
         SELECT $1, $2, {MICROS}, {UNTIL}, $4, false WHERE {COMMIT_DURABLE} AND {bounded} \
         ON CONFLICT ({key}) DO UPDATE SET \
           (owner, fence, {expiry}, holder, waited, reserved, reserved_until, waiters, seen, \
             awaited_until) = (\
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
                 ELSE {reserved_until} END, \
               d.others, CASE WHEN d.others IS NOT NULL THEN d.seen END, \
               CASE WHEN d.others IS NOT NULL THEN {awaited_until} END \
             FROM (SELECT e.*, nullif(CASE WHEN e.granted THEN array_remove(e.waiters, $5) \
                 WHEN e.taken THEN e.waiters ELSE e.waiters[e.first + 1:] END, '{{}}') AS others \
             FROM (SELECT c.*, \
                 c.again OR coalesce(CASE WHEN c.taken THEN NOT c.held AND l.reserved = $5 \
                   ELSE c.waiters[c.first] = $5 END, false) AS granted \
               FROM (SELECT b.*, b.held AND l.owner = $2 AS again, b.held OR b.reserved AS taken, \
                   CASE WHEN NOT (b.held OR b.reserved) THEN {first} END AS first \
                 FROM (SELECT {NOW_MS} AS now, {is_reserved} AS reserved, \
                     l.owner IS NOT NULL AND l.{expiry} > clock_timestamp() AS held, \
                     CASE WHEN $5 = ANY (l.waiters) THEN l.waiters \
                       ELSE coalesce(l.waiters, '{{}}') || $5 END AS waiters, \
                     coalesce(l.seen, '{{}}') || jsonb_build_object($6, {NOW_MS}) AS seen \
                   OFFSET 0) b OFFSET 0) c OFFSET 0) e OFFSET 0) d \
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
           seen = CASE WHEN array_remove(l.waiters, $2) <> '{{}}' THEN l.seen END, \
           awaited_until = CASE WHEN array_remove(l.waiters, $2) <> '{{}}' \
             THEN l.awaited_until END \
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

/// $1 keys, $2 client. Notes that the client is alive, and takes out the waiters of those that are not. One
/// row of arrays, with an element for each lock whose queue has the client, or that is reserved for it: key;
/// the waiter that the lock is reserved for; the first in the queue; for how many ms the lock is held or
/// reserved; the numbers of this client's waiters.
///
/// The rows are locked in the order of their keys, so that no two heartbeats wait for each other.
pub(crate) fn heartbeat(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, .. } = schema;
    let (is_reserved, left) = (is_reserved(), left(schema));
    let is_alive = is_alive("w.waiter", "s.seen", "s.now");
    let (awaited_until, forgotten) = (after(ALIVE_FOR), FORGOTTEN.as_millis());
    format!(
        "WITH locked AS MATERIALIZED (\
           SELECT l.{key} AS key FROM {table} l \
           WHERE l.{key} = ANY ($1) AND {COMMIT_ASYNC} AND {bounded} \
           ORDER BY l.{key} FOR NO KEY UPDATE), \
         found AS (\
           UPDATE {table} l SET (seen, waiters, awaited_until) = (\
             SELECT (SELECT jsonb_object_agg(k, v) FROM jsonb_each(s.seen) e(k, v) \
                 WHERE abs(s.now - v::bigint) <= {forgotten}), \
               (SELECT array_agg(w.waiter ORDER BY w.n) \
                 FROM unnest(l.waiters) WITH ORDINALITY w(waiter, n) WHERE {is_alive}), \
               CASE WHEN l.seen ? $2 THEN {awaited_until} ELSE l.awaited_until END \
             FROM (SELECT {NOW_MS} AS now, CASE WHEN l.seen ? $2 \
               THEN l.seen || jsonb_build_object($2, {NOW_MS}) ELSE l.seen END AS seen OFFSET 0) s) \
           FROM locked WHERE l.{key} = locked.key \
             AND (l.seen ? $2 OR l.owner IS NULL AND split_part(l.reserved, ':', 1) = $2) \
           RETURNING l.{key} AS key, \
             CASE WHEN l.owner IS NULL AND {is_reserved} THEN l.reserved ELSE '' END AS turn, \
             coalesce(l.waiters[1], '') AS first, {left} AS left_ms, \
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
