//! The tables that hold the locks, how they are made, and what is in them.
//!
//! Times are of [`Clock::now`], in microseconds, and end with the start of the system that `boot` names.
//! No holder outlives its system, so the first process after a start frees every lock.
//!
//! Commits do not wait for the disk: what a loss of power undoes are locks whose holders it ended as well.
//! Only tokens outlast it. So every token is less than `token_max`, which is on the disk before that token
//! is given out; after a start of the system tokens begin there, even where the clock went back.

use std::time::Duration;

use glock_core::Fault;
use sqlx::{
    AssertSqlSafe, Executor as _, FromRow, SqlSafeStr as _, SqlStr, SqliteConnection,
    sqlite::SqliteRow,
};

use crate::{
    client::{Clock, Micros, micros},
    error::Failure,
};

/// "glck" in ASCII: says in the file's header whose it is.
const APPLICATION: i64 = 0x676c_636b;
const VERSION: i64 = 2;

/// For how long tokens that begin at the clock are less than a `token_max` that was just moved.
const RESERVED: Duration = Duration::from_secs(10);

const TABLES: &str = "\
    CREATE TABLE IF NOT EXISTS distributed_lock ( \
      lock_id TEXT PRIMARY KEY, owner TEXT, fence INTEGER NOT NULL, expires INTEGER NOT NULL, \
      holder TEXT NOT NULL, waited_until INTEGER NOT NULL, \
      reserved TEXT, reserved_until INTEGER NOT NULL DEFAULT 0, \
      waiters TEXT, seen TEXT, awaited_until INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID; \
    CREATE INDEX IF NOT EXISTS distributed_lock_reserved ON distributed_lock (reserved) \
      WHERE reserved IS NOT NULL; \
    CREATE TABLE IF NOT EXISTS glock ( \
      one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT NOT NULL, \
      token_min INTEGER NOT NULL, token_max INTEGER NOT NULL) STRICT; \
    INSERT OR IGNORE INTO glock VALUES (1, '', 0, 0);";

/// What a row is read as.
pub(crate) trait FromSqlite: for<'r> FromRow<'r, SqliteRow> + Send {}

impl<T: for<'r> FromRow<'r, SqliteRow> + Send> FromSqlite for T {}

/// Whether this process has used the file before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Never,
    /// Since then no other start of the system can have begun, but on another machine.
    Before,
}

/// Makes the tables unless they are there, and begins this start of the system in them.
///
/// A database of another program stays as it is.
pub(crate) async fn prepare(
    driver: &mut SqliteConnection,
    clock: &Clock,
    seen: Seen,
) -> Result<(), Failure> {
    let header = "SELECT (SELECT application_id FROM pragma_application_id), \
                  (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)";
    match first_row(driver, header.to_owned()).await? {
        (APPLICATION, VERSION, _) => {}
        (APPLICATION, version, _) => {
            let what = format!("the file has form {version} of another glock-sqlite; use that one");
            return Err(Failure::new(Fault::Rejected, what));
        }
        (0, _, 0) => {
            use_log(driver).await?;
            run(
                driver,
                format!(
                    "BEGIN IMMEDIATE; {TABLES} PRAGMA application_id = {APPLICATION}; \
                 PRAGMA user_version = {VERSION}; COMMIT"
                ),
            )
            .await?;
        }
        _ => {
            let what = "the file is another program's database; give the locks a file of their own";
            return Err(Failure::new(Fault::Rejected, what));
        }
    }
    use_log(driver).await?;
    let (boot,): (String,) = first_row(driver, "SELECT boot FROM glock".to_owned()).await?;
    match seen {
        _ if boot == clock.boot() => Ok(()),
        Seen::Never => begin_boot(driver, clock).await,
        Seen::Before => Err(Failure::used_elsewhere()),
    }
}

/// Puts the database into the mode in which readers and a writer do not wait for each other.
async fn use_log(driver: &mut SqliteConnection) -> Result<(), Failure> {
    let (mode,): (String,) = first_row(driver, "PRAGMA journal_mode".to_owned()).await?;
    if mode == "wal" {
        return Ok(());
    }
    let (mode,): (String,) = first_row(driver, "PRAGMA journal_mode = WAL".to_owned()).await?;
    if mode == "wal" {
        return Ok(());
    }
    let what = format!("SQLite cannot keep a write-ahead log here, its journal mode is {mode}");
    Err(Failure::new(Fault::Rejected, what))
}

/// Frees the locks of an earlier start of the system.
async fn begin_boot(driver: &mut SqliteConnection, clock: &Clock) -> Result<(), Failure> {
    let (boot, wall) = (clock.boot(), Clock::wall());
    let reserved = reserved(wall);
    run(driver, format!(
        "PRAGMA synchronous = FULL; BEGIN IMMEDIATE; \
         UPDATE distributed_lock SET owner = NULL \
           WHERE owner IS NOT NULL AND (SELECT boot FROM glock) <> '{boot}'; \
         UPDATE distributed_lock SET waited_until = 0 \
           WHERE waited_until <> 0 AND (SELECT boot FROM glock) <> '{boot}'; \
         UPDATE distributed_lock SET reserved = NULL, reserved_until = 0, waiters = NULL, seen = NULL, \
             awaited_until = 0 \
           WHERE (reserved IS NOT NULL OR waiters IS NOT NULL) \
             AND (SELECT boot FROM glock) <> '{boot}'; \
         UPDATE glock SET boot = '{boot}', token_min = token_max, token_max = max(token_max + {}, {reserved}) \
           WHERE boot <> '{boot}'; \
         COMMIT; PRAGMA synchronous = NORMAL",
        reserved - wall,
    ))
    .await
}

/// Moves `token_max` beyond `token`, on the disk. The driver must not keep it: SQLite obeys the first and
/// the last statement as it prepares them.
pub(crate) fn reserve_sql(token: i64) -> SqlStr {
    let most = reserved(Clock::wall().max(token));
    let sql = format!(
        "PRAGMA synchronous = FULL; UPDATE glock SET token_max = max(token_max, {most}); \
         PRAGMA synchronous = NORMAL"
    );
    AssertSqlSafe(sql).into_sql_str()
}

fn reserved(from: Micros) -> Micros {
    from.saturating_add(micros(RESERVED))
}

/// Runs statements that take no parameters. One that fails leaves its transaction open, and its connection
/// is not used again.
async fn run(driver: &mut SqliteConnection, sql: String) -> Result<(), Failure> {
    let done = driver.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
    done.map(drop).map_err(Failure::of)
}

async fn first_row<T>(driver: &mut SqliteConnection, sql: String) -> Result<T, Failure>
where
    T: FromSqlite,
{
    let rows = driver.fetch_all(sqlx::raw_sql(AssertSqlSafe(sql))).await.map_err(Failure::of)?;
    let row = rows.first().ok_or_else(|| Failure::of(sqlx::Error::RowNotFound))?;
    T::from_row(row).map_err(Failure::unexpected_reply)
}
