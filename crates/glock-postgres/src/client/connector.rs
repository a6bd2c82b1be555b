//! `Connector`: opens connections of glock's own, and ends the server's processes behind them.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use glock_core::{Fault, OwnerToken};
use sqlx::{
    ConnectOptions as _, Connection as _, FromRow, PgConnection, PgPool, SqlStr,
    postgres::PgConnectOptions,
};
use tokio::{
    runtime::{self, Handle},
    sync::Semaphore,
    time::{self, Instant},
};

use crate::{
    client::limits::Limits,
    error::{Failure, is_refused_by_pooler},
};

/// A setting of glock's own. A connection whose server knows it has a server process to itself.
const IDENTITY: &str = "glock.connection";
/// Which server process runs the statements of a connection.
const PROCESS: &str = "SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint, \
     current_setting('glock.connection', true) FROM pg_stat_get_activity(pg_backend_pid())";
const ASKS_MAX: usize = 2;
/// How long asking takes at least before its connection counts as silent: it opens one for that.
const ASK_MIN: Duration = Duration::from_secs(2);
const ASK_MAX: Duration = Duration::from_secs(5);
/// $1 pid, $2 start. One row if there is such a process: whether it has ended within 300 ms.
const TERMINATE: SqlStr = SqlStr::from_static(
    "SELECT pg_terminate_backend(pid, 300) FROM pg_stat_get_activity($1) \
     WHERE (extract(epoch FROM backend_start) * 1000000)::bigint = $2",
);

/// $1 pid, $2 start. One row if there is such a process: `NULL` if it runs a statement; if it waits for a
/// request, whether it has ended within 300 ms.
const END_IDLE: SqlStr = SqlStr::from_static(
    "SELECT CASE WHEN wait_event = 'ClientRead' THEN pg_terminate_backend(pid, 300) END \
     FROM pg_stat_get_activity($1) \
     WHERE (extract(epoch FROM backend_start) * 1000000)::bigint = $2",
);

/// The server's process that runs the statements of one connection. Its start tells it from a later
/// one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ServerProcess {
    pid: i32,
    started_at: i64,
}

/// What is known of a server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessState {
    Lives,
    /// It was to be ended if it runs no statement, and may have been.
    MayEnd,
    /// Nothing that it was sent takes effect any more.
    Ended,
}

/// A connection of glock's own. No other code ever sent anything on it.
pub(crate) struct OwnConnection {
    pub(crate) driver: PgConnection,
    /// `None` behind a pooler, which runs each statement in whichever process is free.
    pub(crate) process: Option<ServerProcess>,
    /// The runtime that reads its socket.
    pub(crate) runtime: runtime::Id,
    pub(crate) opened_at: Instant,
}

/// Opens connections to the server that the application's pool names.
pub(crate) struct Connector {
    pool: PgPool,
    limits: Limits,
    /// Whether the server is behind a pooler that takes no settings.
    behind_pooler: AtomicBool,
    /// So that few connections are open to ask about others.
    asks: Semaphore,
}

impl Connector {
    pub(crate) fn new(pool: PgPool, limits: Limits) -> Self {
        Self { pool, limits, behind_pooler: AtomicBool::new(false), asks: Semaphore::new(ASKS_MAX) }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Opens a connection with the settings that the pool has now: a password may have changed.
    pub(crate) async fn open(&self) -> Result<OwnConnection, Failure> {
        let options = self.pool.connect_options();
        if !self.behind_pooler.load(Relaxed) {
            let identity = OwnerToken::random().map_err(Failure::unexpected_reply)?;
            let connected = self.with_settings(&options, identity.reveal()).connect().await;
            match connected {
                Ok(mut driver) => {
                    let process = process_of(&mut driver, identity.reveal()).await;
                    return Ok(OwnConnection::new(driver, process.map_err(Failure::not_sent)?));
                }
                Err(err) if is_refused_by_pooler(&err) => {}
                Err(err) => return Err(Failure::not_sent(err)),
            }
        }
        let driver = options.connect().await.map_err(Failure::not_sent)?;
        self.behind_pooler.store(true, Relaxed);
        Ok(OwnConnection::new(driver, None))
    }

    /// The settings of a connection, sent as it is opened: a pooler that shares connections between
    /// clients refuses them, while `SET` would reach the sessions of others.
    fn with_settings(&self, options: &PgConnectOptions, identity: &str) -> PgConnectOptions {
        let millis = |limit: Duration| limit.as_millis().max(1).to_string();
        options.clone().options([
            ("lock_timeout", millis(self.limits.lock_wait())),
            ("statement_timeout", millis(self.limits.statement())),
            // glock closes what is idle itself.
            ("idle_session_timeout", "0".to_owned()),
            (IDENTITY, identity.to_owned()),
        ])
    }

    /// Ends server processes, so that nothing that they were sent takes effect any more. `done` gets each
    /// that has ended, or that the server refuses to end.
    pub(crate) async fn end(
        &self,
        processes: &[ServerProcess],
        mut done: impl FnMut(ServerProcess, Result<(), Failure>) + Send,
    ) -> Result<(), Failure> {
        let work = async {
            let mut driver = self.open().await?.driver;
            for process in processes {
                match ask(&mut driver, TERMINATE, *process).await {
                    Ok(None | Some(Some(true))) => done(*process, Ok(())),
                    // It has not ended yet.
                    Ok(Some(_)) => {}
                    Err(failure) if failure.fault == Fault::Rejected => {
                        done(*process, Err(failure));
                    }
                    Err(failure) => return Err(failure),
                }
            }
            close(driver).await
        };
        self.ask(work).await
    }

    /// Ends a server process that runs no statement. One that does lives on.
    pub(crate) async fn end_idle(&self, process: ServerProcess) -> Result<ProcessState, Failure> {
        let work = async {
            let mut driver = self.open().await?.driver;
            let state = match ask(&mut driver, END_IDLE, process).await? {
                Some(None) => ProcessState::Lives,
                Some(Some(false)) => ProcessState::MayEnd,
                None | Some(Some(true)) => ProcessState::Ended,
            };
            close(driver).await?;
            Ok(state)
        };
        self.ask(work).await
    }

    /// Asks over a connection that is open for that alone: all others may be in use, or silent.
    async fn ask<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        // The semaphore is never closed.
        let _one_of_few = self.asks.acquire().await;
        let silent = |_| Err(Failure::new(Fault::Unavailable, "the server does not reply"));
        // An undo waits for the answer: no longer than for that of an attempt, or it could not ask again.
        let limit = self.limits.attempt().clamp(ASK_MIN, ASK_MAX);
        time::timeout(limit, work).await.unwrap_or_else(silent)
    }
}

async fn ask(
    driver: &mut PgConnection,
    sql: SqlStr,
    process: ServerProcess,
) -> Result<Option<Option<bool>>, Failure> {
    let query =
        sqlx::query_as::<_, (Option<bool>,)>(sql).bind(process.pid).bind(process.started_at);
    let row = query.fetch_optional(driver).await;
    Ok(row.map_err(|err| Failure::sent(err, ""))?.map(|(answer,)| answer))
}

async fn close(driver: PgConnection) -> Result<(), Failure> {
    driver.close().await.map_err(|err| Failure::sent(err, ""))
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("behind_pooler", &self.behind_pooler)
            .finish_non_exhaustive()
    }
}

impl OwnConnection {
    fn new(driver: PgConnection, process: Option<ServerProcess>) -> Self {
        let runtime = Handle::current().id();
        Self { driver, process, runtime, opened_at: Instant::now() }
    }
}

/// The process of a connection, or `None` if a pooler swallowed its settings.
async fn process_of(
    driver: &mut PgConnection,
    identity: &str,
) -> Result<Option<ServerProcess>, sqlx::Error> {
    let row = sqlx::raw_sql(SqlStr::from_static(PROCESS)).fetch_one(driver).await?;
    let (pid, started_at, known): (i32, i64, Option<String>) = FromRow::from_row(&row)?;
    Ok((known.as_deref() == Some(identity)).then_some(ServerProcess { pid, started_at }))
}
