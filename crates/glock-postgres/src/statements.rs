//! `Statements`: what is said to the server, one statement an operation.

use std::{sync::Arc, time::Duration};

use crate::schema::Schema;

/// The statements for one table. An owner token tells one grant from all others, so each may be
/// carried out twice.
///
/// All of them read `clock_timestamp()`: `now()` is when the transaction began, which may be long
/// before a row lock was had. Settings are made inside the statement, for its transaction alone:
/// that costs no round trip and no plan node, and does not leak through a pooler.
#[derive(Debug, Clone)]
pub(crate) struct Statements {
    pub(crate) acquire: Arc<str>,
    pub(crate) renew: Arc<str>,
    pub(crate) release: Arc<str>,
    pub(crate) mark: Arc<str>,
    pub(crate) inspect: Arc<str>,
    /// $1 channel. Proves that a listener hears.
    pub(crate) notify: Arc<str>,
    /// Which of the server's processes it runs in.
    pub(crate) pid: Arc<str>,
}

/// Microseconds since 1970; exact in a `double precision` for another two centuries.
const MICROS: &str = "(date_part('epoch', clock_timestamp()) * 1000000)::bigint";
/// $3 milliseconds from now.
const UNTIL: &str = "clock_timestamp() + $3 * interval '1 millisecond'";
/// Of what may be lost in a crash without harm.
const LAZY: &str = "set_config('synchronous_commit', 'off', true) IS NOT NULL";

impl Statements {
    /// `lock_wait` is how long a statement may wait for a row that another transaction has locked.
    pub(crate) fn new(schema: &Schema, lock_wait: Duration) -> Self {
        let limit = lock_wait.as_millis().max(1);
        let bounded = format!("set_config('lock_timeout', '{limit}', true) IS NOT NULL");
        Self {
            acquire: acquire(schema, &bounded).into(),
            renew: renew(schema, &bounded).into(),
            release: release(schema, &bounded).into(),
            mark: mark(schema, &bounded).into(),
            inspect: inspect(schema).into(),
            notify: "SELECT pg_notify($1, '')::text".into(),
            pid: "SELECT pg_backend_pid()".into(),
        }
    }
}

/// $1 key, $2 owner, $3 TTL in ms, $4 holder. One row: the fence if granted, else `NULL` and the
/// holder, its fence and its remaining ms. No row: somebody else came first, and this statement's
/// snapshot is older than that.
///
/// A refused try is the common case under contention, so it only reads: a row is locked, and a
/// commit written, only if the snapshot shows no live holder. What is written is decided on the
/// locked row. The token is at least the clock, so that it grows even if the row was lost. The mark
/// of sleepers survives a takeover, because an expiry told them nothing; a release did.
fn acquire(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let remaining = remaining(expiry);
    format!(
        "WITH held AS MATERIALIZED (\
           SELECT l.holder, l.fence, {remaining} AS remaining FROM {table} l \
           WHERE l.{key} = $1 AND l.owner <> $2 AND l.{expiry} > clock_timestamp()), \
         granted AS (\
           INSERT INTO {table} AS l ({key}, owner, fence, {expiry}, holder, waited) \
           SELECT $1, $2, {MICROS}, {UNTIL}, $4, false \
           WHERE NOT EXISTS (SELECT FROM held) AND {bounded} \
           ON CONFLICT ({key}) DO UPDATE SET \
             owner = EXCLUDED.owner, \
             fence = CASE WHEN l.owner = $2 AND l.{expiry} > clock_timestamp() \
               THEN l.fence ELSE greatest(l.fence + 1, {MICROS}) END, \
             {expiry} = {UNTIL}, \
             holder = EXCLUDED.holder, \
             waited = l.waited AND l.owner IS NOT NULL \
           WHERE l.owner IS NULL OR l.owner = $2 OR l.{expiry} <= clock_timestamp() \
           RETURNING l.fence) \
         SELECT fence, NULL::text, NULL::bigint, NULL::bigint FROM granted \
         UNION ALL \
         SELECT NULL, holder, fence, remaining FROM held"
    )
}

/// $1 key, $2 owner, $3 TTL in ms. One row if renewed.
///
/// Never to an earlier time: the old lease stays good for what it was, and sleepers were told of
/// that time.
fn renew(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    format!(
        "UPDATE {table} l SET {expiry} = greatest(l.{expiry}, {UNTIL}) \
         WHERE l.{key} = $1 AND l.owner = $2 AND l.{expiry} > clock_timestamp() AND {bounded} \
         RETURNING true"
    )
}

/// $1 key, $2 owner. One row if the row was the owner's: whether the lease was still running.
///
/// It need not reach the disk before it is answered: lost in a crash, it costs the rest of the TTL.
/// Commits with a notification wait for each other, throughout the database; so there is one only
/// if somebody sleeps. The mark stays, and goes with the next grant.
fn release(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, channel } = schema;
    format!(
        "UPDATE {table} l SET owner = NULL \
         WHERE l.{key} = $1 AND l.owner = $2 AND {LAZY} AND {bounded} \
         RETURNING l.{expiry} > clock_timestamp(), \
           CASE WHEN l.waited THEN pg_notify('{channel}', $1)::text END"
    )
}

/// $1 key. Marks a held lock as slept on. One row: the remaining ms. No row: the lock is free, or
/// has changed since the snapshot; try it.
///
/// The second half counts only a mark that the snapshot shows: a row that was held and unmarked
/// then, and could not be marked, was released meanwhile. A lost mark is no loss: whatever loses it
/// ends the listener's connection too.
fn mark(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let remaining = remaining(expiry);
    let held = format!("l.{key} = $1 AND l.owner IS NOT NULL AND l.{expiry} > clock_timestamp()");
    format!(
        "WITH marked AS (\
           UPDATE {table} l SET waited = true \
           WHERE {held} AND NOT l.waited AND {LAZY} AND {bounded} \
           RETURNING {remaining} AS remaining) \
         SELECT remaining FROM marked \
         UNION ALL \
         SELECT {remaining} FROM {table} l WHERE {held} AND l.waited"
    )
}

/// $1 key. One row if held: holder, fence, remaining ms.
fn inspect(schema: &Schema) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let remaining = remaining(expiry);
    format!(
        "SELECT l.holder, l.fence, {remaining} FROM {table} l \
         WHERE l.{key} = $1 AND l.owner IS NOT NULL AND l.{expiry} > clock_timestamp()"
    )
}

/// Milliseconds until the expiry, rounded up. An operator may set `infinity` to bar a lock, which
/// has no difference to anything.
fn remaining(expiry: &str) -> String {
    format!(
        "ceil(date_part('epoch', least(l.{expiry}, clock_timestamp() + interval '1000 days') \
         - clock_timestamp()) * 1000)::bigint"
    )
}
