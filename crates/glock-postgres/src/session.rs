//! `Session`: one statement on a connection of the pool, sent again where that is safe and helps.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use glock_core::Fault;
use sqlx::{
    AssertSqlSafe, Connection as _, PgPool,
    postgres::{PgArguments, PgRow, Postgres},
    query::Query,
};
use tokio::time::{self, Instant};

use crate::{
    error::{Connection, Explained, Failure, Remedy, verdict},
    spare::{Borrowed, Spare},
};

pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// How often a statement is sent on another connection because the last was dead, and how often a
/// connection that breaks while it is made is made again.
const RECONNECTS_MAX: u32 = 3;
/// The first pause before a connection is made again; each later one is twice as long.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);
/// How often a statement is repeated because another transaction came first. That one got
/// somewhere, so this ends.
const REPEATS_MAX: u32 = 20;

/// The way to the server. Clones share it.
#[derive(Clone)]
pub(crate) struct Session {
    pool: PgPool,
    spare: Arc<Spare>,
    limit: Duration,
}

/// How a statement is sent.
pub(crate) enum Way {
    /// It is to be carried out, whoever waits for it, and may be twice.
    Always,
    /// It is of use to a future that holds the other end, and is not sent again once it may have
    /// been carried out: the caller does that in another way.
    Once {
        future: Weak<()>,
        /// Whether a connection broke before: then the others of the pool may be dead too.
        again: bool,
    },
}

impl Way {
    fn is_of_no_use(&self) -> bool {
        matches!(self, Self::Once { future, .. } if future.strong_count() == 0)
    }

    fn is_once(&self) -> bool {
        matches!(self, Self::Once { .. })
    }

    fn is_again(&self) -> bool {
        matches!(self, Self::Once { again: true, .. })
    }
}

/// What the server said.
pub(crate) struct Answer {
    /// The first row.
    pub(crate) row: Option<PgRow>,
    /// Just before the request that was answered left.
    pub(crate) sent_at: Instant,
    /// Whether an earlier request went unanswered, and so may have been carried out as well.
    pub(crate) repeated: bool,
}

impl Session {
    /// A session whose calls may take `limit`.
    pub(crate) fn new(pool: PgPool, limit: Duration) -> Self {
        Self { pool, spare: Arc::default(), limit }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// How long a call may wait for a connection: short of the call's own limit, so that the
    /// caller learns that nothing was sent.
    fn connection_wait(&self) -> Duration {
        self.limit * 3 / 4
    }

    /// How long a statement may wait for a row that another transaction has locked, likewise.
    pub(crate) fn lock_wait(&self) -> Duration {
        self.limit * 4 / 5
    }

    /// Sends `sql` with what `bind` puts into it. `secret` is what no error may repeat.
    ///
    /// A connection that turns out to be dead is replaced. The statement must bear being carried
    /// out twice.
    pub(crate) async fn fetch(
        &self,
        sql: &Arc<str>,
        bind: impl Fn(Statement) -> Statement + Send + Sync,
        secret: &str,
    ) -> Result<Answer, Failure> {
        self.fetch_in(&Way::Always, sql, bind, secret).await
    }

    /// Does the same in that way.
    pub(crate) async fn fetch_in(
        &self,
        way: &Way,
        sql: &Arc<str>,
        bind: impl Fn(Statement) -> Statement + Send + Sync,
        secret: &str,
    ) -> Result<Answer, Failure> {
        let (mut reconnects, mut repeats, mut repeated) = (0, 0, false);
        loop {
            let connection = if reconnects == 0 && !way.is_again() {
                self.connection().await
            } else {
                self.live_connection().await
            };
            let mut connection = match connection {
                Err(failure) if repeated => return Err(failure.after_unanswered()),
                connection => connection?,
            };
            if way.is_of_no_use() {
                self.give_back(connection);
                let failure = Failure::new(Fault::Unavailable, "nobody waits for it any more");
                return Err(if repeated { failure.after_unanswered() } else { failure });
            }
            let statement = bind(sqlx::query(AssertSqlSafe(Arc::clone(sql))));
            let sent_at = Instant::now();
            let err = match statement.fetch_optional(&mut **connection.get()).await {
                Ok(row) => {
                    self.give_back(connection);
                    return Ok(Answer { row, sent_at, repeated });
                }
                Err(err) => err,
            };
            let verdict = verdict(&err);
            if verdict.connection == Connection::Good {
                self.give_back(connection);
            } else {
                drop(connection);
            }
            let remedy = match verdict.fault {
                Fault::Unknown if way.is_once() => Remedy::GiveUp,
                _ => verdict.remedy,
            };
            match remedy {
                Remedy::Reconnect if reconnects < RECONNECTS_MAX => reconnects += 1,
                Remedy::Repeat if repeats < REPEATS_MAX => repeats += 1,
                _ if repeated => return Err(Failure::sent(err, secret).after_unanswered()),
                _ => return Err(Failure::sent(err, secret)),
            }
            repeated |= verdict.fault == Fault::Unknown;
        }
    }

    /// A connection from the pool, or the one that was used last.
    pub(crate) async fn connection(&self) -> Result<Borrowed, Failure> {
        let wait = self.connection_wait();
        match time::timeout(wait, self.new_connection()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => Err(self.no_connection(wait)),
            Ok(Err(err)) => Err(Failure::unsent(err)),
        }
    }

    async fn new_connection(&self) -> Result<Borrowed, sqlx::Error> {
        let (mut pause, mut broken) = (RECONNECT_PAUSE, 0);
        loop {
            match self.spare.take(&self.pool).await {
                // The pool itself tries again only if the server refuses.
                Err(sqlx::Error::Io(_)) if broken < RECONNECTS_MAX => broken += 1,
                result => return result,
            }
            time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// A connection that answers: after a restart of the server, every one in the pool is dead.
    async fn live_connection(&self) -> Result<Borrowed, Failure> {
        let mut dead = 0;
        loop {
            let mut connection = self.connection().await?;
            match connection.get().ping().await {
                Ok(()) => return Ok(connection),
                Err(err) if dead > self.pool.options().get_max_connections() => {
                    return Err(Failure::unsent(err));
                }
                Err(_) => dead += 1,
            }
        }
    }

    /// Takes back a connection on which nothing is under way.
    pub(crate) fn give_back(&self, connection: Borrowed) {
        self.spare.give_back(&self.pool, connection);
    }

    fn no_connection(&self, wait: Duration) -> Failure {
        let what = format!(
            "the pool had no connection to give within {:?} ({} of {} open, {} idle); either the \
             server is out of reach or the pool is too small",
            wait.min(self.pool.options().get_acquire_timeout()),
            self.pool.size(),
            self.pool.options().get_max_connections(),
            self.pool.num_idle(),
        );
        Failure::new(Fault::Unavailable, Explained { what, source: None })
    }
}
