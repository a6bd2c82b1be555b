//! One statement and its reply; the statement is sent again where that is safe and helps.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use glock_core::{
    Fault,
    toolkit::{CallDeadline, Mutex},
};
use sqlx::{
    AssertSqlSafe, Executor as _, FromRow, SqlStr,
    postgres::{PgArguments, PgRow, Postgres},
    query::Query,
};
use tokio::time::{self, Instant};

use crate::{
    client::{
        connections::{Connections, Purpose},
        connector::{ProcessState, ServerProcess},
        in_use::InUse,
    },
    error::{ConnectionState, ErrorClass, Failure, NextStep, StatementState, classify},
};

pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// How often a statement is sent on another connection because the last one was dead.
const RECONNECTS_MAX: u32 = 3;
/// How often a statement is repeated because another transaction came first. That one made
/// progress, so this ends.
const REPEATS_MAX: u32 = 20;

/// How long a reply that the server has sent may be under way.
const GRACE: Duration = Duration::from_millis(20);

/// How a statement may be sent.
pub(crate) enum SendMode {
    /// It is carried out even if its caller leaves, and may be carried out twice.
    Repeatable,
    /// The same, for a lock that is held.
    Hold,
    /// It is of use only to its caller, and is not sent again once it may have been carried out: the
    /// caller retries under another owner token.
    Once {
        /// Dropped when the caller leaves.
        caller: Weak<()>,
        late: Arc<LateStatement>,
    },
}

/// Where a statement runs of which there was no reply: it may take effect as long as that process lives.
#[derive(Default)]
pub(crate) struct LateStatement(Mutex<Option<ServerProcess>>);

impl LateStatement {
    fn set(&self, process: Option<ServerProcess>) {
        *self.0.lock() = process;
    }

    /// Whether it may still take effect.
    pub(crate) fn may_run(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Makes sure that the statement takes no effect from now on.
    pub(crate) async fn end(&self, connections: &Connections) -> Result<(), Failure> {
        let process = *self.0.lock();
        if let Some(process) = process {
            connections.abandoned().end(process).await?;
            self.set(None);
        }
        Ok(())
    }
}

impl SendMode {
    fn caller_left(&self) -> bool {
        matches!(self, Self::Once { caller, .. } if caller.strong_count() == 0)
    }

    fn purpose(&self) -> Purpose {
        match self {
            Self::Hold => Purpose::Hold,
            Self::Repeatable | Self::Once { .. } => Purpose::Ordinary,
        }
    }

    /// Notes that the statement runs in `process`, or in none any more.
    fn note(&self, process: Option<ServerProcess>) {
        if let Self::Once { late, .. } = self {
            late.set(process);
        }
    }
}

/// The server's reply to a statement.
pub(crate) struct Reply<T> {
    /// The first row.
    pub(crate) row: Option<T>,
    /// The instant just before the request of this reply was sent.
    pub(crate) sent_at: Instant,
    /// Whether an earlier request got no reply, and so may have been carried out as well.
    pub(crate) repeated: bool,
}

impl Connections {
    /// Sends `sql` with the parameters that `bind` adds. `secret` appears in no error.
    ///
    /// A connection that turns out to be dead or silent is replaced. The statement must be one that can be
    /// carried out twice.
    pub(crate) async fn fetch<T: for<'r> FromRow<'r, PgRow>>(
        &self,
        mode: &SendMode,
        until: CallDeadline,
        sql: &SqlStr,
        bind: impl Fn(Statement) -> Statement + Send + Sync,
        secret: &str,
    ) -> Result<Reply<T>, Failure> {
        let once = matches!(mode, SendMode::Once { .. });
        let (mut reconnects, mut repeats, mut repeated) = (0, 0, false);
        loop {
            let failed = |failure: Failure| {
                if repeated { failure.after_lost_reply() } else { failure }
            };
            let connection = self.take(mode.purpose(), until).await;
            let mut connection = connection.map_err(failed)?;
            if mode.caller_left() {
                self.give_back(connection);
                let what = "its caller left before it was sent";
                return Err(failed(Failure::new(Fault::Unavailable, what)));
            }
            let statement = bind(sqlx::query(sql.clone()));
            let process = connection.process();
            mode.note(process);
            let sent_at = Instant::now();
            let reply = connection.begin().fetch_optional(statement);
            let (reply, state) = self.reply(reply, process, until).await;
            connection.note(state);
            let reply = match reply {
                Some(Ok(row)) => {
                    mode.note(None);
                    connection.end();
                    self.give_back(connection);
                    let row = row.map(|row| T::from_row(&row)).transpose();
                    let row = row.map_err(Failure::unexpected_reply)?;
                    return Ok(Reply { row, sent_at, repeated });
                }
                Some(Err(err)) => Some(err),
                None => None,
            };
            let class = reply.as_ref().map_or(ErrorClass::SILENT, classify);
            if class.statement == StatementState::Over || state == ProcessState::Ended {
                mode.note(None);
            }
            self.after_failure(connection, class);
            let next = match class.fault {
                Fault::Unknown if once => NextStep::GiveUp,
                _ => class.next,
            };
            match next {
                NextStep::Reconnect if reconnects < RECONNECTS_MAX => reconnects += 1,
                NextStep::Repeat if repeats < REPEATS_MAX => repeats += 1,
                _ => {
                    let failure = match reply {
                        Some(err) => Failure::sent(err, secret),
                        None => Failure::silent(sent_at.elapsed()),
                    };
                    return Err(failed(failure));
                }
            }
            repeated |= class.fault == Fault::Unknown;
        }
    }

    /// Sends `batch` in the simple protocol: its statements are one transaction. All their rows.
    pub(crate) async fn batch(
        &self,
        until: CallDeadline,
        batch: String,
    ) -> Result<Vec<PgRow>, Failure> {
        let mut connection = self.take(Purpose::Ordinary, until).await?;
        let (process, began) = (connection.process(), Instant::now());
        let rows = connection.begin().fetch_all(sqlx::raw_sql(AssertSqlSafe(batch)));
        let (rows, state) = self.reply(rows, process, until).await;
        connection.note(state);
        let Some(rows) = rows else {
            self.after_failure(connection, ErrorClass::SILENT);
            return Err(Failure::silent(began.elapsed()));
        };
        let err = match rows {
            Ok(rows) => {
                connection.end();
                self.give_back(connection);
                return Ok(rows);
            }
            Err(err) => err,
        };
        self.after_failure(connection, classify(&err));
        Err(Failure::sent(err, ""))
    }

    /// The reply to a statement that `process` runs, or `None` if its connection is silent: no reply came
    /// within the time of an attempt, and the process had nothing to do. Such a process is ended.
    async fn reply<T>(
        &self,
        mut reply: impl Future<Output = T> + Unpin,
        process: Option<ServerProcess>,
        until: CallDeadline,
    ) -> (Option<T>, ProcessState) {
        if let Ok(reply) = until.reply(&mut reply).await {
            return (Some(reply), ProcessState::Lives);
        }
        // The others may be silent as well.
        self.close_idle();
        let Some(process) = process else { return (None, ProcessState::MayEnd) };
        let state = tokio::select! {
            biased;
            reply = &mut reply => return (Some(reply), ProcessState::MayEnd),
            state = self.abandoned().end_idle(process) => state.unwrap_or(ProcessState::MayEnd),
        };
        match state {
            // A server that is slow, or waits for a lock or a standby, replies in the end.
            ProcessState::Lives => (Some(reply.await), state),
            // It may have replied meanwhile.
            ProcessState::MayEnd | ProcessState::Ended => {
                (time::timeout(GRACE, reply).await.ok(), state)
            }
        }
    }

    /// Keeps or closes a connection after an error.
    fn after_failure(&self, mut connection: InUse, class: ErrorClass) {
        if class != ErrorClass::SILENT {
            connection.end();
        }
        match class.connection {
            ConnectionState::Usable => self.give_back(connection),
            ConnectionState::Dead => self.suspect_idle(),
            ConnectionState::Unfit => self.close_idle(),
        }
    }
}
