//! What an operator does: listing, forced release, preflight.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use glock_core::{
    Action, Fault, FencingToken, HoldPage, Holder, IdPrefix, ListCursor, LockAdmin, LockError,
    LockId, Warning,
    toolkit::{CallDeadline, key_range, page_of_keys},
};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};

use crate::{
    client::{Access, Micros, Statement},
    commands::{Commands, duration, token},
    error::Failure,
    lock::SqliteLock,
    queue::sql::pass_on,
};

/// $1 first key, $2 key after the last, $3 limit, $4 now.
const LIST: SqlStr = SqlStr::from_static(
    "SELECT lock_id, holder, fence, expires - ?4 FROM distributed_lock \
     WHERE lock_id >= ?1 AND lock_id < ?2 AND owner IS NOT NULL AND expires > ?4 \
       AND (SELECT boot FROM glock) = ?5 \
     ORDER BY lock_id LIMIT ?3",
);

/// $1 key, $2 fence, $3 now. One row if the hold was ended: whether another process may sleep on it, and the
/// waiter that it is reserved for now, or an empty text.
static FORCE_RELEASE: LazyLock<SqlStr> = LazyLock::new(|| {
    let pass_on = pass_on();
    let text = format!(
        "UPDATE distributed_lock AS l SET owner = NULL, {pass_on} \
         WHERE lock_id = ?1 AND fence = ?2 AND owner IS NOT NULL AND expires > ?3 \
         RETURNING waited_until > ?3, coalesce(reserved, '')"
    );
    AssertSqlSafe(text).into_sql_str()
});

#[async_trait]
impl LockAdmin for SqliteLock {
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

    /// A file that cannot be used is a warning with the reason: on a file system that other machines may
    /// share, or another program's database.
    async fn preflight(&self) -> Result<Vec<Warning>, LockError> {
        let client = Arc::clone(&self.client);
        let call = self.client.call(Action::Preflight);
        let until = call.deadline();
        let work = async move {
            match client.commands.inspect(&format!("{}/", client.config.namespace), until).await {
                Ok(_) => Ok(Vec::new()),
                Err(failure) if failure.fault == Fault::Rejected => {
                    let text = failure.during(Action::Preflight);
                    let source = std::error::Error::source(&text).map(ToString::to_string);
                    Ok(vec![Warning::new("sqlite.file", source.unwrap_or_default())])
                }
                Err(failure) => Err(failure.during(Action::Preflight)),
            }
        };
        call.run(work).await
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
        type Row = (String, String, i64, Micros);

        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let boot = self.connections().clock().boot();
        let bind = |query: Statement, now| {
            let query = query.bind(start.clone()).bind(end.clone()).bind(limit);
            query.bind(now).bind(boot.to_owned())
        };
        let rows = self.connections().fetch::<Row>(Access::Read, until, &LIST, bind).await?.rows;
        let read = rows.into_iter().map(|(key, label, fence, left)| (key, (label, fence, left)));
        page_of_keys(namespace, read.collect(), max, |(label, fence, left)| {
            Ok(Some(Holder::new(label, token(fence)?).with_remaining(Some(duration(left)))))
        })
    }

    /// Ends the hold with the token `expected`. `None` if it was not there, else the waiter of this client that
    /// the lock is reserved for now.
    async fn force_release(
        &self,
        key: &str,
        expected: FencingToken,
        until: CallDeadline,
    ) -> Result<Option<Option<u64>>, Failure> {
        type Row = (bool, String);

        // No token is larger.
        let Ok(fence) = i64::try_from(expected.get()) else { return Ok(None) };
        let bind = |query: Statement, now| query.bind(key.to_owned()).bind(fence).bind(now);
        let reply =
            self.connections().fetch::<Row>(Access::Write, until, &FORCE_RELEASE, bind).await?;
        Ok(reply.rows.first().map(|(is_waited, turn)| self.pass(*is_waited, turn)))
    }
}
