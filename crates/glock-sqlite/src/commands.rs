//! `Commands`: the statements that glock sends, one an operation, and their replies.

pub(crate) mod sleepers;

use std::{collections::HashSet, fmt::Write as _, sync::LazyLock, time::Duration};

use glock_core::{
    FencingToken, Holder, OwnerToken,
    toolkit::{AcquireReply, AcquireRequest, CallDeadline, ClientId},
};
use sqlx::{AssertSqlSafe, SqlSafeStr as _, SqlStr};
use tokio::time::Instant;

use crate::{
    client::{Access, Clock, Connections, Micros, Statement, micros},
    error::Failure,
    queue::sql::pass_on,
    schema,
};

/// The operations on the file. Clones share its connections.
#[derive(Clone)]
pub(crate) struct Commands {
    connections: Connections,
    /// The client's name in queues.
    pub(crate) client: ClientId,
}

/// Why an acquire is refused now.
enum Refusal {
    Held(Holder),
    /// It is reserved for a waiter, or one is first.
    Waiter,
    None,
}

/// What came of a release.
pub(crate) struct Released {
    /// Whether the lease still ran.
    pub(crate) was_live: bool,
    /// The waiter of this client that the lock is reserved for now.
    pub(crate) turn: Option<u64>,
}

/// How often an acquire is tried that no holder refuses.
const TRIES_MAX: u32 = 3;

/// $1 key, $2 owner, $3 now, $4 TTL, $5 where tokens begin, $6 holder, $7 this start of the system. One
/// row if granted: the token, and what tokens are less than.
///
/// `waited_until` survives a takeover, because an expiry touches nothing. A lock that is reserved, or that a
/// waiter is first for, is refused.
const ACQUIRE: SqlStr = SqlStr::from_static(
    "INSERT INTO distributed_lock AS l (lock_id, owner, fence, expires, holder, waited_until) \
     SELECT ?1, ?2, max(?5, token_min), ?3 + ?4, ?6, 0 FROM glock WHERE boot = ?7 \
     ON CONFLICT (lock_id) DO UPDATE SET owner = excluded.owner, \
       fence = max(l.fence + 1, excluded.fence), expires = excluded.expires, holder = excluded.holder, \
       reserved = NULL, reserved_until = 0 \
     WHERE (l.owner IS NULL OR l.expires <= ?3) AND l.reserved_until <= ?3 AND l.awaited_until <= ?3 \
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

/// As [`RENEW`], of so many leases. $1 now, $2 TTL, $3 this start of the system, then keys and owners in turn.
/// A row for each lease that was renewed.
fn renew_all(count: usize) -> SqlStr {
    let mut leases = String::new();
    for n in 0..count {
        let _ = write!(leases, "{}(?{}, ?{})", if n > 0 { ", " } else { "" }, 4 + 2 * n, 5 + 2 * n);
    }
    let text = format!(
        "WITH due(lock_id, owner) AS (VALUES {leases}) \
         UPDATE distributed_lock AS l SET expires = max(l.expires, ?1 + ?2) FROM due \
         WHERE l.lock_id = due.lock_id AND l.owner = due.owner AND l.expires > ?1 \
           AND (SELECT boot FROM glock) = ?3 \
         RETURNING owner"
    );
    AssertSqlSafe(text).into_sql_str()
}

/// $1 key, $2 owner, $3 now. One row if the row was the owner's: whether its lease still ran, whether
/// another process may sleep on it, and the waiter that it is reserved for now, or an empty text.
static RELEASE: LazyLock<SqlStr> = LazyLock::new(|| {
    let pass_on = pass_on();
    let text = format!(
        "UPDATE distributed_lock AS l SET owner = NULL, {pass_on} WHERE lock_id = ?1 AND owner = ?2 \
         RETURNING expires > ?3, waited_until > ?3, coalesce(reserved, '')"
    );
    AssertSqlSafe(text).into_sql_str()
});

/// $1 key, $2 now. One row: the start of the system; holder, token and time left if it is held or reserved
/// or a waiter is first for it; whether it is held.
const INSPECT: SqlStr = SqlStr::from_static(
    "SELECT boot, holder, fence, expires - ?2, owner IS NOT NULL AND expires > ?2 \
     FROM glock LEFT JOIN distributed_lock ON lock_id = ?1 AND \
       (owner IS NOT NULL AND expires > ?2 OR reserved_until > ?2 OR awaited_until > ?2)",
);

impl Commands {
    pub(crate) fn new(connections: Connections, client: ClientId) -> Self {
        Self { connections, client }
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    pub(crate) async fn acquire(
        &self,
        request: AcquireRequest<'_>,
        until: CallDeadline,
    ) -> Result<AcquireReply, Failure> {
        let bind = |query: Statement, now| self.bind(request, query, now);
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
            match self.look(request.key, until).await? {
                Refusal::Held(holder) => return Ok(AcquireReply::Held(Some(holder))),
                Refusal::Waiter => return Ok(AcquireReply::Held(None)),
                Refusal::None => {}
            }
        }
        Ok(AcquireReply::Held(None))
    }

    /// Adds the parameters of an acquire: see [`ACQUIRE`].
    pub(crate) fn bind(
        &self,
        request: AcquireRequest<'_>,
        query: Statement,
        now: Micros,
    ) -> Statement {
        let (owner, boot) = (request.owner.reveal(), self.connections.clock().boot());
        let query = query.bind(request.key.to_owned()).bind(owner.to_owned()).bind(now);
        let query = query.bind(micros(request.ttl)).bind(Clock::wall());
        query.bind(request.holder.to_owned()).bind(boot.to_owned())
    }

    /// Sees to it that no later start of the system gives the token out again.
    pub(crate) async fn reserve(&self, until: CallDeadline, fence: i64) -> Result<(), Failure> {
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

    /// Renews the leases of these keys and owners. Returns the instant just before the request was sent, and the
    /// owners whose leases were renewed.
    pub(crate) async fn renew_all(
        &self,
        leases: &[(String, OwnerToken)],
        ttl: Duration,
        until: CallDeadline,
    ) -> Result<(Instant, HashSet<String>), Failure> {
        let (sql, boot) = (renew_all(leases.len()), self.connections.clock().boot());
        let bind = |query: Statement, now| {
            let query = query.bind(now).bind(micros(ttl)).bind(boot.to_owned());
            let lease = |query: Statement, (key, owner): &(String, OwnerToken)| {
                query.bind(key.clone()).bind(owner.reveal().to_owned())
            };
            // Its text depends on how many are due.
            leases.iter().fold(query, lease).persistent(false)
        };
        let reply = self.connections.fetch::<(String,)>(Access::Write, until, &sql, bind).await?;
        Ok((reply.sent_at, reply.rows.into_iter().map(|(owner,)| owner).collect()))
    }

    /// Frees the lock if `owner` has it.
    pub(crate) async fn release(
        &self,
        key: &str,
        owner: &OwnerToken,
        until: CallDeadline,
    ) -> Result<Released, Failure> {
        type Row = (bool, bool, String);

        let bind = |query: Statement, now| {
            query.bind(key.to_owned()).bind(owner.reveal().to_owned()).bind(now)
        };
        let reply = self.connections.fetch::<Row>(Access::Write, until, &RELEASE, bind).await?;
        let Some((was_live, is_waited, turn)) = reply.rows.into_iter().next() else {
            return Ok(Released { was_live: false, turn: None });
        };
        Ok(Released { was_live, turn: self.pass(is_waited, &turn) })
    }

    /// Notifies other processes after a request that has reserved a lock for `turn`, if that is not empty:
    /// those that sleep, or the waiter's client. Returns the waiter's number if it is this client's.
    pub(crate) fn pass(&self, is_waited: bool, turn: &str) -> Option<u64> {
        let own = self.client.number_of(turn);
        if is_waited || !turn.is_empty() && own.is_none() {
            self.connections.database().file.touch();
        }
        own
    }

    pub(crate) async fn inspect(
        &self,
        key: &str,
        until: CallDeadline,
    ) -> Result<Option<Holder>, Failure> {
        match self.look(key, until).await? {
            Refusal::Held(holder) => Ok(Some(holder)),
            Refusal::Waiter | Refusal::None => Ok(None),
        }
    }

    async fn look(&self, key: &str, until: CallDeadline) -> Result<Refusal, Failure> {
        type Row = (String, Option<String>, Option<i64>, Option<Micros>, Option<bool>);

        let bind = |query: Statement, now| query.bind(key.to_owned()).bind(now);
        let reply = self.connections.fetch::<Row>(Access::Read, until, &INSPECT, bind).await?;
        match reply.rows.into_iter().next() {
            Some((boot, ..)) if boot != self.connections.clock().boot() => {
                Err(Failure::used_elsewhere())
            }
            Some((_, Some(label), Some(fence), Some(left), Some(true))) => {
                let holder = Holder::new(label, token(fence)?);
                Ok(Refusal::Held(holder.with_remaining(Some(duration(left)))))
            }
            Some((_, Some(_), ..)) => Ok(Refusal::Waiter),
            _ => Ok(Refusal::None),
        }
    }
}

pub(crate) fn token(fence: i64) -> Result<FencingToken, Failure> {
    u64::try_from(fence).map(FencingToken::new).map_err(Failure::unexpected_reply)
}

/// Zero if the time has passed.
pub(crate) fn duration(time: Micros) -> Duration {
    Duration::from_micros(u64::try_from(time).unwrap_or(0))
}
