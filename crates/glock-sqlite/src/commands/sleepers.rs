//! The statements for those who sleep until a lock is free, and for many locks at once.

use std::time::Duration;

use glock_core::toolkit::CallDeadline;
use sqlx::{AssertSqlSafe, SqlSafeStr as _};

use crate::{
    client::{Access, Micros, Statement, micros},
    commands::{Commands, duration},
    error::Failure,
};

/// A lock that is held, as a waiter needs to know.
pub(crate) struct HeldLock {
    pub(crate) key: String,
    pub(crate) remaining: Duration,
    /// For how long the file is still touched when it is released.
    pub(crate) noticed_for: Duration,
}

/// How many locks one statement looks at.
pub(crate) const BATCH: usize = 16;
/// A reservation ends soon: no release of it needs to be noticed.
const NEVER: Micros = Micros::MAX / 2;

impl Commands {
    /// Which of at most [`BATCH`] locks are held or reserved.
    pub(crate) async fn held(
        &self,
        keys: &[String],
        until: CallDeadline,
    ) -> Result<Vec<HeldLock>, Failure> {
        let sql = format!(
            "SELECT lock_id, CASE WHEN owner IS NOT NULL THEN expires ELSE reserved_until END, \
               CASE WHEN owner IS NOT NULL THEN waited_until ELSE {NEVER} END FROM distributed_lock \
             WHERE (owner IS NOT NULL AND expires > ?1 OR reserved_until > ?1) AND lock_id IN ({})",
            places(keys.len(), 2),
        );
        let sql = AssertSqlSafe(sql).into_sql_str();
        let bind = |query: Statement, now| bind_keys(query.bind(now), keys.iter());
        let reply = self.connections().fetch(Access::Read, until, &sql, bind).await?;
        let now = reply.now;
        let held =
            reply.rows.into_iter().map(|(key, expires, waited_until): (_, Micros, Micros)| {
                let (remaining, noticed_for) =
                    (duration(expires - now), duration(waited_until - now));
                HeldLock { key, remaining, noticed_for }
            });
        Ok(held.collect())
    }

    /// Has the file touched when one of at most [`BATCH`] locks that are held is released in that time.
    pub(crate) async fn set_waited(
        &self,
        keys: &[String],
        time: Duration,
        until: CallDeadline,
    ) -> Result<(), Failure> {
        let sql = format!(
            "UPDATE distributed_lock SET waited_until = ?1 + ?2 \
             WHERE owner IS NOT NULL AND expires > ?1 AND waited_until < ?1 + ?2 / 2 AND lock_id IN ({})",
            places(keys.len(), 3),
        );
        let sql = AssertSqlSafe(sql).into_sql_str();
        let bind =
            |query: Statement, now| bind_keys(query.bind(now).bind(micros(time)), keys.iter());
        self.connections().fetch::<()>(Access::Write, until, &sql, bind).await.map(drop)
    }
}

/// As many parameters as there are keys, or a full batch: two statements to prepare, not sixteen.
pub(crate) fn places(keys: usize, first: usize) -> String {
    let count = if keys == 1 { 1 } else { BATCH };
    let places: Vec<_> = (first..first + count).map(|place| format!("?{place}")).collect();
    places.join(", ")
}

/// The parameters that are left are null, which equals no key.
pub(crate) fn bind_keys<'k>(query: Statement, keys: impl Iterator<Item = &'k String>) -> Statement {
    keys.fold(query, |query, key| query.bind(key.clone()))
}
