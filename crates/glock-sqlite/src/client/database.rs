//! `Database`: the file, how it is opened, and whether it is still the one at its path.

use std::time::Duration;

use glock_core::{LockError, toolkit::Mutex};
use sqlx::{
    ConnectOptions as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use crate::{
    client::{
        clock::Clock,
        file::{DatabaseFile, FileId},
    },
    error::Failure,
    schema::{self, Seen},
};

/// How long SQLite itself waits for another process that writes, before other statements of this process
/// get their turn.
const BUSY_SLICE: Duration = Duration::from_millis(20);

/// The file, and how it is opened.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) file: DatabaseFile,
    options: SqliteConnectOptions,
    clock: Clock,
    /// The file that was opened last.
    seen: Mutex<Option<FileId>>,
}

/// An open connection, and the file that it leads to.
pub(crate) struct Connection {
    pub(crate) driver: SqliteConnection,
    file: FileId,
}

impl Database {
    /// The file that `options` name. No I/O but for the clock.
    pub(crate) fn new(options: &SqliteConnectOptions) -> Result<Self, LockError> {
        let file = DatabaseFile::new(options.get_filename())?;
        let clock = Clock::new();
        let clock = clock.map_err(|err| LockError::invalid("clock", format!("{err}: no /proc")))?;
        let options = options
            .clone()
            .filename(file.path())
            .shared_cache(false)
            .busy_timeout(BUSY_SLICE)
            .synchronous(SqliteSynchronous::Normal)
            .thread_name(|number| format!("glock-sqlite-{number}"))
            .disable_statement_logging();
        Ok(Self { file, options, clock, seen: Mutex::default() })
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Opens the file, and makes its tables unless they are there.
    pub(crate) async fn open(&self) -> Result<Connection, Failure> {
        self.file.check()?;
        let before = self.file.id().ok();
        let mut driver = self.options.connect().await.map_err(Failure::of)?;
        let file = self.file.id().map_err(Failure::io)?;
        if before.is_some_and(|before| before != file) {
            return Err(Failure::replaced());
        }
        let seen = if *self.seen.lock() == Some(file) { Seen::Before } else { Seen::Never };
        schema::prepare(&mut driver, &self.clock, seen).await?;
        *self.seen.lock() = Some(file);
        Ok(Connection { driver, file })
    }

    /// An error if the file is not the one of the connection any more: what is in that one, no other
    /// process sees.
    pub(crate) fn is_still_there(&self, connection: &Connection) -> Result<(), Failure> {
        match self.file.id() {
            Ok(file) if file == connection.file => Ok(()),
            _ => Err(Failure::replaced()),
        }
    }
}
