//! `Commands`: the statements that glock sends, one an operation, and their replies.

use std::time::Duration;

use glock_core::{FencingToken, Holder, OwnerToken, toolkit::CallDeadline};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use tokio::time::Instant;

use crate::{
    client::{Access, Clock, Connections, Micros, Statement, micros},
    error::Failure,
    schema,
};

/// The operations on the file. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Commands {
    connections: Connections,
}

/// The reply to an acquire.
pub(crate) enum AcquireReply {
    Granted {
        fence: FencingToken,
        /// The instant just before the request was sent.
        sent_at: Instant,
    },
    /// The holder is not known if locks changed hands in between.
    Held(Option<Holder>),
}

/// A lock that is held, as a waiter needs to know.
pub(crate) struct HeldLock {
    pub(crate) key: String,
    pub(crate) remaining: Duration,
    /// For how long the file is still touched when it is released.
    pub(crate) noticed_for: Duration,
}

/// How many locks one statement looks at.
pub(crate) const BATCH: usize = 16;
/// How often an acquire is tried that no holder refuses.
const TRIES_MAX: u32 = 3;

/// $1 key, $2 owner, $3 now, $4 TTL, $5 where tokens begin, $6 holder, $7 this start of the system. One
/// row if granted: the token, and what tokens are less than.
///
/// `waited_until` survives a takeover, because an expiry touches nothing.
const ACQUIRE: SqlStr = SqlStr::from_static(
    "INSERT INTO distributed_lock AS l (lock_id, owner, fence, expires, holder, waited_until) \
     SELECT ?1, ?2, max(?5, token_min), ?3 + ?4, ?6, 0 FROM glock WHERE boot = ?7 \
     ON CONFLICT (lock_id) DO UPDATE SET owner = excluded.owner, \
       fence = max(l.fence + 1, excluded.fence), expires = excluded.expires, holder = excluded.holder \
     WHERE l.owner IS NULL OR l.expires <= ?3 \
     RETURNING fence, (SELECT token_max FROM glock)",
);

/// $1 key, $2 owner, $3 now, $4 TTL, $5 this start of the system. One row if renewed.
///
/// Never to an earlier time: the old lease stays valid until its own deadline, and waiters sleep until
/// that time.
const RENEW: SqlStr = SqlStr::from_static(
    "UPDATE distributed_lock SET expires = max(expires, ?3 + ?4) \
     WHERE lock_id = ?1 AND owner = ?2 AND expires > ?3 AND (SELECT boot FROM glock) = ?5 \
     RETURNING true",
);

/// $1 key, $2 owner, $3 now. One row if the row was the owner's: whether its lease still ran, and whether
/// another process may wait.
const RELEASE: SqlStr = SqlStr::from_static(
    "UPDATE distributed_lock SET owner = NULL WHERE lock_id = ?1 AND owner = ?2 \
     RETURNING expires > ?3, waited_until > ?3",
);

/// $1 key, $2 now. One row: the start of the system, and holder, token and time left if it is held.
const INSPECT: SqlStr = SqlStr::from_static(
    "SELECT boot, holder, fence, expires - ?2 FROM glock LEFT JOIN distributed_lock \
     ON lock_id = ?1 AND owner IS NOT NULL AND expires > ?2",
);

impl Commands {
    pub(crate) fn new(connections: Connections) -> Self {
        Self { connections }
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    pub(crate) async fn acquire(
        &self,
        until: CallDeadline,
        key: &str,
        owner: &OwnerToken,
        ttl: Duration,
        holder: &str,
    ) -> Result<AcquireReply, Failure> {
        let clock = self.connections.clock();
        let bind = |query: Statement, now| {
            let query = query.bind(key.to_owned()).bind(owner.reveal().to_owned()).bind(now);
            let query = query.bind(micros(ttl)).bind(Clock::wall()).bind(holder.to_owned());
            query.bind(clock.boot().to_owned())
        };
        for _ in 0..TRIES_MAX {
            let granted = self.connections.fetch(Access::Write, until, &ACQUIRE, bind).await?;
            if let Some((fence, reserved)) = granted.rows.into_iter().next() {
                if fence >= reserved {
                    self.reserve(until, fence).await?;
                }
                return Ok(AcquireReply::Granted {
                    fence: token(fence)?,
                    sent_at: granted.sent_at,
                });
            }
            if let Some(holder) = self.inspect(key, until).await? {
                return Ok(AcquireReply::Held(Some(holder)));
            }
        }
        Ok(AcquireReply::Held(None))
    }

    /// Sees to it that no later start of the system gives the token out again.
    async fn reserve(&self, until: CallDeadline, fence: i64) -> Result<(), Failure> {
        let sql = schema::reserve_sql(fence);
        let bind = |query: Statement, _| query.persistent(false);
        self.connections.fetch::<()>(Access::Write, until, &sql, bind).await.map(drop)
    }

    /// Returns the instant just before the request was sent, or `None` if the lease is over.
    pub(crate) async fn renew(
        &self,
        key: &str,
        owner: &OwnerToken,
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<Option<Instant>, Failure> {
        let boot = self.connections.clock().boot();
        let bind = |query: Statement, now| {
            let query = query.bind(key.to_owned()).bind(owner.reveal().to_owned()).bind(now);
            query.bind(micros(ttl)).bind(boot.to_owned())
        };
        let reply = self.connections.fetch::<(bool,)>(Access::Write, until, &RENEW, bind).await?;
        Ok(reply.rows.first().map(|_| reply.sent_at))
    }

    /// Frees the lock if `owner` has it. Returns whether its lease still ran.
    pub(crate) async fn release(
        &self,
        key: &str,
        owner: &OwnerToken,
        until: CallDeadline,
    ) -> Result<bool, Failure> {
        let bind = |query: Statement, now| {
            query.bind(key.to_owned()).bind(owner.reveal().to_owned()).bind(now)
        };
        let reply = self.connections.fetch(Access::Write, until, &RELEASE, bind).await?;
        let Some(&(was_live, is_waited)) = reply.rows.first() else { return Ok(false) };
        if is_waited {
            self.connections.database().file.touch();
        }
        Ok(was_live)
    }

    pub(crate) async fn inspect(
        &self,
        key: &str,
        until: CallDeadline,
    ) -> Result<Option<Holder>, Failure> {
        type Row = (String, Option<String>, Option<i64>, Option<Micros>);

        let bind = |query: Statement, now| query.bind(key.to_owned()).bind(now);
        let reply = self.connections.fetch::<Row>(Access::Read, until, &INSPECT, bind).await?;
        match reply.rows.into_iter().next() {
            Some((boot, ..)) if boot != self.connections.clock().boot() => {
                Err(Failure::used_elsewhere())
            }
            Some((_, Some(label), Some(fence), Some(left))) => {
                Ok(Some(Holder::new(label, token(fence)?).with_remaining(Some(duration(left)))))
            }
            _ => Ok(None),
        }
    }

    /// Which of at most [`BATCH`] locks are held.
    pub(crate) async fn held(
        &self,
        keys: &[String],
        until: CallDeadline,
    ) -> Result<Vec<HeldLock>, Failure> {
        let sql = format!(
            "SELECT lock_id, expires, waited_until FROM distributed_lock \
             WHERE owner IS NOT NULL AND expires > ?1 AND lock_id IN ({})",
            places(keys, 2),
        );
        let sql = AssertSqlSafe(sql).into_sql_str();
        let bind = |query: Statement, now| bind_keys(query.bind(now), keys);
        let reply = self.connections.fetch(Access::Read, until, &sql, bind).await?;
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
            places(keys, 3),
        );
        let sql = AssertSqlSafe(sql).into_sql_str();
        let bind = |query: Statement, now| bind_keys(query.bind(now).bind(micros(time)), keys);
        self.connections.fetch::<()>(Access::Write, until, &sql, bind).await.map(drop)
    }
}

/// As many parameters as there are keys, or a full batch: two statements to prepare, not sixteen.
fn places(keys: &[String], first: usize) -> String {
    let count = if keys.len() == 1 { 1 } else { BATCH };
    let places: Vec<_> = (first..first + count).map(|place| format!("?{place}")).collect();
    places.join(", ")
}

/// The parameters that are left are null, which equals no key.
fn bind_keys(query: Statement, keys: &[String]) -> Statement {
    keys.iter().fold(query, |query, key| query.bind(key.clone()))
}

pub(crate) fn token(fence: i64) -> Result<FencingToken, Failure> {
    u64::try_from(fence).map(FencingToken::new).map_err(Failure::unexpected_reply)
}

/// Zero if the time has passed.
pub(crate) fn duration(time: Micros) -> Duration {
    Duration::from_micros(u64::try_from(time).unwrap_or(0))
}
