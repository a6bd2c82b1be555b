//! `Statements`: the texts that are sent, one an operation.

use sqlx::SqlStr;

use crate::{
    client::Limits,
    commands::{
        queue_sql,
        sql::{COMMIT_ASYNC, COMMIT_DURABLE, MICROS, UNTIL, remaining_sql, sql},
    },
    schema::Schema,
};

/// The statements.
///
/// All of them read `clock_timestamp()`: `now()` is when the transaction began, which may be long
/// before the statement got the row's lock. Settings are made inside the statement, for its
/// transaction alone: that costs no round trip and no plan node, and does not leak through a pooler.
pub(crate) struct Statements {
    /// With the table as it was found.
    pub(crate) schema: Schema,
    pub(crate) acquire: SqlStr,
    pub(crate) renew: SqlStr,
    pub(crate) renew_all: SqlStr,
    pub(crate) release: SqlStr,
    pub(crate) set_waited: SqlStr,
    pub(crate) inspect: SqlStr,
    pub(crate) enter: SqlStr,
    pub(crate) leave: SqlStr,
    pub(crate) forgo: SqlStr,
    pub(crate) heartbeat: SqlStr,
}

impl Statements {
    pub(crate) fn new(schema: &Schema, limits: Limits) -> Self {
        // Behind a pooler, connections have no settings of their own.
        let limit = limits.lock_wait().as_millis().max(1);
        let bounded = format!("set_config('lock_timeout', '{limit}', true) IS NOT NULL");
        Self {
            acquire: sql(acquire_sql(schema, &bounded)),
            renew: sql(renew_sql(schema, &bounded)),
            renew_all: sql(renew_all_sql(schema, &bounded)),
            release: sql(release_sql(schema, &bounded)),
            set_waited: sql(set_waited_sql(schema, &bounded)),
            inspect: sql(inspect_sql(schema)),
            enter: sql(queue_sql::enter(schema, &bounded)),
            leave: sql(queue_sql::leave(schema, &bounded)),
            forgo: sql(queue_sql::forgo(schema, &bounded)),
            heartbeat: sql(queue_sql::heartbeat(schema, &bounded)),
            schema: schema.clone(),
        }
    }
}

/// $1 key, $2 owner, $3 TTL in ms, $4 holder. One row: `true`, `false`, no holder, the fence and 0 if
/// granted; else `false`, whether it is held, the holder, its fence and its remaining ms. No row: another
/// owner came first, and this statement's snapshot is older than that grant.
///
/// Under contention most acquires are refused, so a refused one only reads: a row is locked, and a
/// commit written, only if the snapshot shows no live holder. The locked row then decides. The token
/// is at least the clock, so that it grows even if the row was lost. `waited` survives a takeover,
/// because an expiry notifies no waiter; a release did.
fn acquire_sql(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let (remaining, is_reserved, is_awaited) =
        (remaining_sql(expiry), queue_sql::is_reserved(), queue_sql::is_awaited());
    let refused = format!(
        "CASE WHEN l.owner = $2 THEN false \
           WHEN l.owner IS NOT NULL AND l.{expiry} > clock_timestamp() THEN true \
           ELSE {is_reserved} OR {is_awaited} END"
    );
    format!(
        "WITH held AS MATERIALIZED (\
           SELECT l.owner IS NOT NULL AND l.{expiry} > clock_timestamp() AS is_held, \
             l.holder, l.fence, {remaining} AS remaining FROM {table} l \
           WHERE l.{key} = $1 AND {refused}), \
         granted AS (\
           INSERT INTO {table} AS l ({key}, owner, fence, {expiry}, holder, waited) \
           SELECT $1, $2, {MICROS}, {UNTIL}, $4, false \
           WHERE NOT EXISTS (SELECT FROM held) AND {COMMIT_DURABLE} AND {bounded} \
           ON CONFLICT ({key}) DO UPDATE SET \
             owner = EXCLUDED.owner, \
             fence = CASE WHEN l.owner = $2 AND l.{expiry} > clock_timestamp() \
               THEN l.fence ELSE greatest(l.fence + 1, {MICROS}) END, \
             {expiry} = {UNTIL}, \
             holder = EXCLUDED.holder, \
             waited = l.waited AND l.owner IS NOT NULL, \
             reserved = NULL, \
             reserved_until = NULL \
           WHERE NOT {refused} \
           RETURNING l.fence) \
         SELECT true, false, '', fence, 0::bigint FROM granted \
         UNION ALL \
         SELECT false, is_held, holder, fence, remaining FROM held"
    )
}

/// $1 key, $2 owner, $3 TTL in ms. One row if renewed.
///
/// Never to an earlier time: the old lease stays valid until its own deadline, and waiters sleep
/// until that time.
fn renew_sql(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    format!(
        "UPDATE {table} l SET {expiry} = greatest(l.{expiry}, {UNTIL}) \
         WHERE l.{key} = $1 AND l.owner = $2 AND l.{expiry} > clock_timestamp() \
           AND {COMMIT_DURABLE} AND {bounded} \
         RETURNING true"
    )
}

/// $1 keys, $2 their owners, $3 TTL in ms. One row: the owners of those that were renewed, as
/// [`renew_sql`] does one. Rows that are locked are left out: a renewal that waits holds up no other.
fn renew_all_sql(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    format!(
        "WITH due AS MATERIALIZED (\
           SELECT l.{key} AS key FROM {table} l \
           JOIN unnest($1::text[], $2::text[]) d(key, owner) \
             ON l.{key} = d.key AND l.owner = d.owner \
           WHERE l.{expiry} > clock_timestamp() AND {COMMIT_DURABLE} AND {bounded} \
           FOR NO KEY UPDATE OF l SKIP LOCKED), \
         renewed AS (\
           UPDATE {table} l SET {expiry} = greatest(l.{expiry}, {UNTIL}) \
           FROM due WHERE l.{key} = due.key AND l.{expiry} > clock_timestamp() \
           RETURNING l.owner) \
         SELECT coalesce(array_agg(owner), '{{}}') FROM renewed"
    )
}

/// $1 key, $2 owner, $3 client. One row if the row was the owner's: whether its lease still ran, and the
/// waiter that the lock is reserved for now, if it is this client's.
///
/// The reply does not wait for the disk: a release that is lost in a crash costs the rest of the TTL.
/// Transactions that notify commit one after another, throughout the database; so a release notifies
/// only if `waited` is set. The next grant resets it.
fn release_sql(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let (end, passed_on) = (end_sql(), queue_sql::passed_on("$3"));
    format!(
        "UPDATE {table} l SET {end} \
         WHERE l.{key} = $1 AND l.owner = $2 AND {COMMIT_ASYNC} AND {bounded} \
         RETURNING l.{expiry} > clock_timestamp(), {passed_on}, {notify}",
        notify = notify_sql(schema),
    )
}

/// Ends the hold of row `l`, and passes the lock on.
pub(crate) fn end_sql() -> String {
    format!("owner = NULL, {}", queue_sql::pass_on())
}

/// Notifies those who sleep until the lock is free. $1 key.
pub(crate) fn notify_sql(schema: &Schema) -> String {
    format!("CASE WHEN l.waited THEN pg_notify('{}', $1)::text END", schema.channel)
}

/// $1 key. Sets `waited` on a held lock. One row: the remaining ms. No row: the lock is free, or has
/// changed since the snapshot; try to acquire it.
///
/// The second half reads only rows whose `waited` is set in the snapshot: if `waited` was not set
/// then, and the first half could not set it, the lock was released meanwhile. A crash that loses the
/// commit ends the listener's connection too, and the waiters try again. A lock that is reserved is free
/// for a sleeper no sooner than that is over.
fn set_waited_sql(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let (held_left, reserved_left) = (remaining_sql(expiry), remaining_sql("reserved_until"));
    let held = format!("l.{key} = $1 AND l.owner IS NOT NULL AND l.{expiry} > clock_timestamp()");
    let reserved = queue_sql::is_reserved();
    format!(
        "WITH updated AS (\
           UPDATE {table} l SET waited = true \
           WHERE {held} AND NOT l.waited AND {COMMIT_ASYNC} AND {bounded} \
           RETURNING {held_left} AS remaining) \
         SELECT remaining FROM updated \
         UNION ALL \
         SELECT {held_left} FROM {table} l WHERE {held} AND l.waited \
         UNION ALL \
         SELECT {reserved_left} FROM {table} l \
         WHERE l.{key} = $1 AND l.owner IS NULL AND {reserved}"
    )
}

/// $1 key. One row if held: holder, fence, remaining ms.
fn inspect_sql(schema: &Schema) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let remaining = remaining_sql(expiry);
    format!(
        "SELECT l.holder, l.fence, {remaining} FROM {table} l \
         WHERE l.{key} = $1 AND l.owner IS NOT NULL AND l.{expiry} > clock_timestamp()"
    )
}
