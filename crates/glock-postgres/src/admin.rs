//! What an operator does: listing, forced release, preflight.

mod preflight;

use std::sync::Arc;

use async_trait::async_trait;
use glock_core::{
    Action, FencingToken, HoldPage, IdPrefix, ListCursor, LockAdmin, LockError, LockId, Warning,
    toolkit::{CallDeadline, key_range, page_of_keys},
};
use sqlx::SqlStr;

use crate::{
    client::{SendMode, Statement},
    commands::{
        Commands, queue_sql, read_holder,
        sql::{COMMIT_ASYNC, remaining_sql, sql},
        statements::{end_sql, notify_sql},
    },
    error::Failure,
    lock::PostgresLock,
    schema::Schema,
};

/// A page: keys, holders, fences, remaining milliseconds.
type Page = (Vec<String>, Vec<String>, Vec<i64>, Vec<i64>);

#[async_trait]
impl LockAdmin for PostgresLock {
    async fn list_page(
        &self,
        prefix: &IdPrefix,
        after: Option<&ListCursor>,
        max: usize,
    ) -> Result<HoldPage, LockError> {
        let client = Arc::clone(&self.client);
        let range = key_range(&client.config.namespace, prefix, after);
        let call = self.client.call(Action::List);
        let until = call.deadline();
        let work = async move {
            let page = client.commands.list(&range, max, &client.config.namespace, until).await;
            page.map_err(|failure| failure.during(Action::List))
        };
        call.run(work).await
    }

    async fn force_release(&self, id: &LockId, expected: FencingToken) -> Result<bool, LockError> {
        let (client, key) = (Arc::clone(&self.client), self.client.key(id));
        let call = self.client.call(Action::ForceRelease);
        let until = call.deadline();
        let work = async move {
            let ended = client.commands.force_release(&key, expected, until).await;
            let ended = ended.map_err(|failure| failure.during(Action::ForceRelease))?;
            let Some(turn) = ended else { return Ok(false) };
            client.notified.freed(&key, turn);
            Ok(true)
        };
        call.run(work).await
    }

    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let client = Arc::clone(&self.client);
        self.client.call(Action::Preflight).run(preflight::warnings(client)).await
    }
}

impl Commands {
    /// The live holds whose keys are from `start` on and before `end`.
    async fn list(
        &self,
        (start, end): &(String, String),
        max: usize,
        namespace: &str,
        until: CallDeadline,
    ) -> Result<HoldPage, Failure> {
        let sql = list_sql(self.schema(until).await?);
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let bind = |query: Statement| query.bind(start.clone()).bind(end.clone()).bind(limit);
        let mode = &SendMode::Repeatable;
        let reply = self.connections.fetch::<Page>(mode, until, &sql, bind, "").await?;
        let (keys, holders, fences, remaining) = reply.row.unwrap_or_default();
        let read = keys.into_iter().zip(holders.into_iter().zip(fences).zip(remaining)).collect();
        page_of_keys(namespace, read, max, |((label, fence), left)| {
            read_holder((label, fence, left)).map(Some)
        })
    }

    /// Ends the hold with the token `expected`. `None` if it was not there, and cannot have been ended by an
    /// earlier request whose reply was lost; else the waiter of this client that the lock is reserved for now.
    async fn force_release(
        &self,
        key: &str,
        expected: FencingToken,
        until: CallDeadline,
    ) -> Result<Option<Option<u64>>, Failure> {
        let sql =
            force_release_sql(self.schema(until).await?, self.connections.limits().lock_wait());
        // No token is larger.
        let Ok(fence) = i64::try_from(expected.get()) else { return Ok(None) };
        let bind = |query: Statement| query.bind(key).bind(fence).bind(self.client.to_string());
        let reply =
            self.connections.fetch::<(String,)>(&SendMode::Hold, until, &sql, bind, "").await?;
        let before = reply.repeated.then_some(None);
        Ok(reply.row.map(|(turn,)| self.client.number_of(&turn)).or(before))
    }
}

/// $1 first key, $2 key after the last, $3 limit. One row of four arrays.
fn list_sql(schema: &Schema) -> SqlStr {
    let Schema { table, key, expiry, .. } = schema;
    let remaining = remaining_sql(expiry);
    sql(format!(
        "SELECT coalesce(array_agg(key ORDER BY key), '{{}}'), \
           coalesce(array_agg(holder ORDER BY key), '{{}}'), \
           coalesce(array_agg(fence ORDER BY key), '{{}}'), \
           coalesce(array_agg(remaining ORDER BY key), '{{}}') \
         FROM (SELECT l.{key} AS key, l.holder, l.fence, {remaining} AS remaining FROM {table} l \
           WHERE l.{key} >= $1 AND l.{key} < $2 \
             AND l.owner IS NOT NULL AND l.{expiry} > clock_timestamp() \
           ORDER BY l.{key} LIMIT $3) page"
    ))
}

/// $1 key, $2 fence, $3 client. One row if the hold was ended: the waiter that the lock is reserved for now,
/// if it is this client's. It notifies as a release does.
fn force_release_sql(schema: &Schema, lock_wait: std::time::Duration) -> SqlStr {
    let Schema { table, key, expiry, .. } = schema;
    let limit = lock_wait.as_millis().max(1);
    let (end, passed_on, notify) = (end_sql(), queue_sql::passed_on("$3"), notify_sql(schema));
    sql(format!(
        "UPDATE {table} l SET {end} \
         WHERE l.{key} = $1 AND l.fence = $2 AND l.owner IS NOT NULL \
           AND l.{expiry} > clock_timestamp() AND {COMMIT_ASYNC} \
           AND set_config('lock_timeout', '{limit}', true) IS NOT NULL \
         RETURNING {passed_on}, {notify}"
    ))
}
