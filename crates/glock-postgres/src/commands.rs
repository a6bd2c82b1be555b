//! `Commands`: the statements that glock sends, one an operation, and their replies.

use std::{sync::OnceLock, time::Duration};

use glock_core::{FencingToken, Holder, OwnerToken, toolkit::CallDeadline};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use tokio::time::Instant;

use crate::{
    client::{
        Connections, Limits,
        SendMode::{self, Hold, Repeatable},
        Statement,
    },
    error::Failure,
    schema::Schema,
};

/// The operations on one table. Each grant has an owner token of its own, so each statement may be
/// carried out twice.
pub(crate) struct Commands {
    pub(crate) connections: Connections,
    schema: Schema,
    /// Made once the table is found, for every table of that name but this one is another lock's.
    statements: OnceLock<Statements>,
}

/// The statements.
///
/// All of them read `clock_timestamp()`: `now()` is when the transaction began, which may be long
/// before the statement got the row's lock. Settings are made inside the statement, for its
/// transaction alone: that costs no round trip and no plan node, and does not leak through a pooler.
struct Statements {
    /// With the table as it was found.
    schema: Schema,
    acquire: SqlStr,
    renew: SqlStr,
    release: SqlStr,
    set_waited: SqlStr,
    inspect: SqlStr,
}

/// The reply to an acquire.
pub(crate) enum AcquireReply {
    Granted {
        fence: FencingToken,
        /// The instant just before the request was sent.
        sent_at: Instant,
    },
    /// The holder is not known if it came after the statement's snapshot.
    Held(Option<Holder>),
}

impl Commands {
    pub(crate) fn new(connections: Connections, schema: Schema) -> Self {
        Self { connections, schema, statements: OnceLock::new() }
    }

    async fn statements(&self, until: CallDeadline) -> Result<&Statements, Failure> {
        if let Some(statements) = self.statements.get() {
            return Ok(statements);
        }
        let schema = self.schema.resolve(&self.connections, until).await?;
        Ok(self.statements.get_or_init(|| Statements::new(&schema, self.connections.limits())))
    }

    /// The names, with the table as it was found.
    pub(crate) async fn schema(&self, until: CallDeadline) -> Result<&Schema, Failure> {
        Ok(&self.statements(until).await?.schema)
    }

    pub(crate) async fn acquire(
        &self,
        mode: &SendMode,
        until: CallDeadline,
        key: &str,
        owner: &OwnerToken,
        ttl: Duration,
        holder: &str,
    ) -> Result<AcquireReply, Failure> {
        let (sql, secret) = (self.statements(until).await?, owner.reveal());
        let bind = |query: Statement| query.bind(key).bind(secret).bind(millis(ttl)).bind(holder);
        let reply = self.connections.fetch(mode, until, &sql.acquire, bind, secret).await?;
        match reply.row {
            Some((true, _, fence, _)) => {
                Ok(AcquireReply::Granted { fence: token(fence)?, sent_at: reply.sent_at })
            }
            Some((false, label, fence, left)) => {
                read_holder((label, fence, left)).map(|holder| AcquireReply::Held(Some(holder)))
            }
            None => Ok(AcquireReply::Held(None)),
        }
    }

    /// Returns the instant just before the request was sent, or `None` if the lease is over.
    pub(crate) async fn renew(
        &self,
        key: &str,
        owner: &OwnerToken,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Option<Instant>, Failure> {
        let (sql, secret) = (self.statements(until).await?, owner.reveal());
        let bind = |query: Statement| query.bind(key).bind(secret).bind(millis(ttl));
        let reply = self.connections.fetch(&Hold, until, &sql.renew, bind, secret).await?;
        Ok(reply.row.map(|()| reply.sent_at))
    }

    /// Frees the lock if `owner` has it. Returns whether its lease still ran. `has_expired` says
    /// whether it can have run out by now.
    pub(crate) async fn release(
        &self,
        key: &str,
        owner: &OwnerToken,
        until: CallDeadline,
        has_expired: impl Fn() -> bool + Send,
    ) -> Result<bool, Failure> {
        let (sql, secret) = (self.statements(until).await?, owner.reveal());
        let bind = |query: Statement| query.bind(key).bind(secret);
        let reply = self.connections.fetch(&Hold, until, &sql.release, bind, secret).await?;
        // If the lease still runs, only an earlier request whose reply was lost can have freed it.
        Ok(reply.row.map_or_else(|| reply.repeated && !has_expired(), |(was_live,)| was_live))
    }

    /// Asks for a notification of the release. Returns the rest of the holder's lease, or `None` if
    /// the lock may be free.
    pub(crate) async fn set_waited(
        &self,
        key: &str,
        until: CallDeadline,
    ) -> Result<Option<Duration>, Failure> {
        let sql = self.statements(until).await?;
        let bind = |query: Statement| query.bind(key);
        let reply = self.connections.fetch(&Repeatable, until, &sql.set_waited, bind, "").await?;
        Ok(reply.row.map(|(left,)| remaining(left)))
    }

    pub(crate) async fn inspect(
        &self,
        key: &str,
        until: CallDeadline,
    ) -> Result<Option<Holder>, Failure> {
        let sql = self.statements(until).await?;
        let bind = |query: Statement| query.bind(key);
        let reply = self.connections.fetch(&Repeatable, until, &sql.inspect, bind, "").await?;
        reply.row.map(read_holder).transpose()
    }
}

impl Statements {
    fn new(schema: &Schema, limits: Limits) -> Self {
        // Behind a pooler, connections have no settings of their own.
        let limit = limits.lock_wait().as_millis().max(1);
        let bounded = format!("set_config('lock_timeout', '{limit}', true) IS NOT NULL");
        let sql = |text: String| AssertSqlSafe(text).into_sql_str();
        Self {
            acquire: sql(acquire_sql(schema, &bounded)),
            renew: sql(renew_sql(schema, &bounded)),
            release: sql(release_sql(schema, &bounded)),
            set_waited: sql(set_waited_sql(schema, &bounded)),
            inspect: sql(inspect_sql(schema)),
            schema: schema.clone(),
        }
    }
}

pub(crate) fn read_holder((label, fence, left): (String, i64, i64)) -> Result<Holder, Failure> {
    Ok(Holder::new(label, token(fence)?).with_remaining(Some(remaining(left))))
}

fn token(fence: i64) -> Result<FencingToken, Failure> {
    u64::try_from(fence).map(FencingToken::new).map_err(Failure::unexpected_reply)
}

fn remaining(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A checked TTL is a whole number of milliseconds, and a year at most.
fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)
}

/// Microseconds since 1970; exact in a `double precision` for another two centuries.
const MICROS: &str = "(date_part('epoch', clock_timestamp()) * 1000000)::bigint";
/// $3 milliseconds from now.
const UNTIL: &str = "clock_timestamp() + $3 * interval '1 millisecond'";
/// A grant or a renewal that a crash loses is held by two.
const COMMIT_DURABLE: &str = "(current_setting('synchronous_commit') <> 'off' \
     OR set_config('synchronous_commit', 'on', true) IS NOT NULL)";
/// For what a crash may lose without harm.
pub(crate) const COMMIT_ASYNC: &str = "set_config('synchronous_commit', 'off', true) IS NOT NULL";

/// $1 key, $2 owner, $3 TTL in ms, $4 holder. One row: `true`, no holder, the fence and 0 if granted;
/// else `false`, the holder, its fence and its remaining ms. No row: another owner came first, and this
/// statement's snapshot is older than that grant.
///
/// Under contention most acquires are refused, so a refused one only reads: a row is locked, and a
/// commit written, only if the snapshot shows no live holder. The locked row then decides. The token
/// is at least the clock, so that it grows even if the row was lost. `waited` survives a takeover,
/// because an expiry notifies no waiter; a release did.
fn acquire_sql(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let remaining = remaining_sql(expiry);
    format!(
        "WITH held AS MATERIALIZED (\
           SELECT l.holder, l.fence, {remaining} AS remaining FROM {table} l \
           WHERE l.{key} = $1 AND l.owner <> $2 AND l.{expiry} > clock_timestamp()), \
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
             waited = l.waited AND l.owner IS NOT NULL \
           WHERE l.owner IS NULL OR l.owner = $2 OR l.{expiry} <= clock_timestamp() \
           RETURNING l.fence) \
         SELECT true, '', fence, 0::bigint FROM granted \
         UNION ALL \
         SELECT false, holder, fence, remaining FROM held"
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

/// $1 key, $2 owner. One row if the row was the owner's: whether its lease still ran.
///
/// The reply does not wait for the disk: a release that is lost in a crash costs the rest of the TTL.
/// Transactions that notify commit one after another, throughout the database; so a release notifies
/// only if `waited` is set. The next grant resets it.
fn release_sql(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, channel } = schema;
    format!(
        "UPDATE {table} l SET owner = NULL \
         WHERE l.{key} = $1 AND l.owner = $2 AND {COMMIT_ASYNC} AND {bounded} \
         RETURNING l.{expiry} > clock_timestamp(), \
           CASE WHEN l.waited THEN pg_notify('{channel}', $1)::text END"
    )
}

/// $1 key. Sets `waited` on a held lock. One row: the remaining ms. No row: the lock is free, or has
/// changed since the snapshot; try to acquire it.
///
/// The second half reads only rows whose `waited` is set in the snapshot: if `waited` was not set
/// then, and the first half could not set it, the lock was released meanwhile. A crash that loses the
/// commit ends the listener's connection too, and the waiters try again.
fn set_waited_sql(schema: &Schema, bounded: &str) -> String {
    let Schema { table, key, expiry, .. } = schema;
    let remaining = remaining_sql(expiry);
    let held = format!("l.{key} = $1 AND l.owner IS NOT NULL AND l.{expiry} > clock_timestamp()");
    format!(
        "WITH updated AS (\
           UPDATE {table} l SET waited = true \
           WHERE {held} AND NOT l.waited AND {COMMIT_ASYNC} AND {bounded} \
           RETURNING {remaining} AS remaining) \
         SELECT remaining FROM updated \
         UNION ALL \
         SELECT {remaining} FROM {table} l WHERE {held} AND l.waited"
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

/// Milliseconds until the expiry, rounded up. An operator may set `infinity` to bar a lock, and
/// PostgreSQL cannot subtract from that.
pub(crate) fn remaining_sql(expiry: &str) -> String {
    format!(
        "ceil(date_part('epoch', least(l.{expiry}, clock_timestamp() + interval '1000 days') \
         - clock_timestamp()) * 1000)::bigint"
    )
}
