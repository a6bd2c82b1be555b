//! `Connections`: where a statement gets its connection, and what happens while others write.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use glock_core::{
    Fault,
    toolkit::{Backoff, CallDeadline, Mutex},
};
use sqlx::{SqlStr, Sqlite, query::Query, sqlite::SqliteArguments};
use tokio::{
    runtime::{self, Handle},
    sync,
    time::{self, Instant},
};

use crate::{
    client::{
        clock::{Clock, Micros},
        database::{Connection, Database},
    },
    error::{Failure, NextStep},
    schema::FromSqlite,
};

pub(crate) type Statement = Query<'static, Sqlite, SqliteArguments>;

/// The pauses between SQLite's own waits for another process that writes, which look every few milliseconds. So many
/// processes that look often would leave no time to the one that writes.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(150);
/// For how many runtimes connections are kept.
const RUNTIMES_MAX: usize = 4;

/// What a statement needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The only writer of this process and runtime: SQLite has one writer at a time anyway.
    Write,
    /// Readers wait for no writer.
    Read,
}

/// The reply to a statement.
pub(crate) struct Reply<T> {
    pub(crate) rows: Vec<T>,
    /// The instant just before the statement was sent.
    pub(crate) sent_at: Instant,
    /// The time that it was sent with, read after that.
    pub(crate) now: Micros,
}

/// Connections of glock's own, two for each runtime. Clones share them.
#[derive(Clone)]
pub(crate) struct Connections(Arc<Shared>);

struct Shared {
    database: Database,
    /// The one that was used last is the last.
    runtimes: Mutex<VecDeque<Arc<OfRuntime>>>,
}

/// The connections that one runtime uses: a task of it that is not polled for a while, because another one
/// computes, keeps no other runtime waiting.
struct OfRuntime {
    runtime: runtime::Id,
    writer: sync::Mutex<Option<Connection>>,
    reader: sync::Mutex<Option<Connection>>,
}

impl OfRuntime {
    fn new(runtime: runtime::Id) -> Self {
        Self { runtime, writer: sync::Mutex::default(), reader: sync::Mutex::default() }
    }

    fn slot(&self, access: Access) -> &sync::Mutex<Option<Connection>> {
        match access {
            Access::Write => &self.writer,
            Access::Read => &self.reader,
        }
    }
}

impl Connections {
    pub(crate) fn new(database: Database) -> Self {
        Self(Arc::new(Shared { database, runtimes: Mutex::default() }))
    }

    pub(crate) fn database(&self) -> &Database {
        &self.0.database
    }

    pub(crate) fn clock(&self) -> &Clock {
        self.0.database.clock()
    }

    /// Opens a connection for the first call.
    pub(crate) async fn connect(&self, until: CallDeadline) -> Result<(), Failure> {
        let sql = SqlStr::from_static("SELECT 1");
        self.fetch::<(i64,)>(Access::Write, until, &sql, |query, _| query).await.map(drop)
    }

    /// A number that changes with every commit of another connection.
    pub(crate) async fn version(&self, until: CallDeadline) -> Result<i64, Failure> {
        let sql = SqlStr::from_static("PRAGMA data_version");
        let reply = self.fetch(Access::Read, until, &sql, |query, _| query).await?;
        let version = reply.rows.first().map(|(version,)| *version);
        version.ok_or_else(|| Failure::of(sqlx::Error::RowNotFound))
    }

    /// Sends `sql` with the parameters that `bind` adds, given the time. It is sent again while other
    /// processes write, and in another file if that has replaced this one.
    pub(crate) async fn fetch<T: FromSqlite>(
        &self,
        access: Access,
        until: CallDeadline,
        sql: &SqlStr,
        bind: impl Fn(Statement, Micros) -> Statement + Send + Sync,
    ) -> Result<Reply<T>, Failure> {
        // Less than what is left of the call, so that its caller learns that nothing changed.
        let give_up_at = Instant::now() + until.left() / 4 * 3;
        let mut pauses = Backoff::new(PAUSE, PAUSE_MAX);
        loop {
            let failure = match self.fetch_once(access, give_up_at, sql, &bind).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            if failure.next != NextStep::Repeat || Instant::now() >= give_up_at {
                return Err(failure);
            }
            pauses.sleep().await;
        }
    }

    async fn fetch_once<T: FromSqlite>(
        &self,
        access: Access,
        give_up_at: Instant,
        sql: &SqlStr,
        bind: &(impl Fn(Statement, Micros) -> Statement + Send + Sync),
    ) -> Result<Reply<T>, Failure> {
        let database = self.database();
        let own = self.of_runtime(Handle::current().id());
        let slot = time::timeout_at(give_up_at, own.slot(access).lock()).await;
        let Ok(mut slot) = slot else {
            let what = "other calls of this process kept writing to the file";
            return Err(Failure::new(Fault::Unavailable, what));
        };
        // Out of its slot: if this future is dropped half-way, the connection goes with it.
        let open = slot.take().filter(|open| database.is_still_there(open).is_ok());
        let mut open = match open {
            Some(open) => open,
            None => database.open().await?,
        };
        let (sent_at, now) = (Instant::now(), self.clock().now());
        // All rows, though most statements have one: the driver tells no error of a commit to those who
        // leave after the first row.
        let rows = bind(sqlx::query(sql.clone()), now).fetch_all(&mut open.driver).await;
        let rows = rows.map_err(Failure::of).and_then(|rows| {
            // It may have been replaced meanwhile.
            database.is_still_there(&open)?;
            let rows = rows.iter().map(T::from_row).collect::<Result<_, _>>();
            rows.map_err(Failure::unexpected_reply)
        });
        if rows.as_ref().err().is_none_or(|failure| failure.next != NextStep::Reopen) {
            *slot = Some(open);
        }
        Ok(Reply { rows: rows?, sent_at, now })
    }

    /// The connections of a runtime. Those of runtimes that were not used for the longest time are closed.
    fn of_runtime(&self, runtime: runtime::Id) -> Arc<OfRuntime> {
        let mut runtimes = self.0.runtimes.lock();
        if let Some(last) = runtimes.back().filter(|last| last.runtime == runtime) {
            return Arc::clone(last);
        }
        let found = runtimes.iter().position(|own| own.runtime == runtime);
        let own = found.and_then(|index| runtimes.remove(index));
        let own = own.unwrap_or_else(|| Arc::new(OfRuntime::new(runtime)));
        runtimes.push_back(Arc::clone(&own));
        if runtimes.len() > RUNTIMES_MAX {
            runtimes.pop_front();
        }
        own
    }
}
