//! `TestFile`: a file of a test's own, and what no lock does to it.

use std::path::{Path, PathBuf};

use glock_sqlite::{
    LockConfig, SqliteLock,
    sqlx::{
        self, AssertSqlSafe, Connection as _, Executor as _, FromRow, SqliteConnection,
        sqlite::{SqliteConnectOptions, SqliteRow},
    },
};
use glock_testing::fresh_namespace;

use crate::support::{SOON, directory};

/// A path that nothing is at, until a lock is opened.
pub(crate) struct TestFile {
    pub(crate) path: PathBuf,
}

impl TestFile {
    pub(crate) fn new() -> Self {
        Self { path: directory().join(format!("{}.db", fresh_namespace())) }
    }

    pub(crate) fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new().filename(&self.path).create_if_missing(true)
    }

    /// A client with connections of its own, as another process has.
    pub(crate) async fn lock(&self) -> SqliteLock {
        SqliteLock::open(&self.path).await.unwrap()
    }

    pub(crate) async fn lock_with(&self, config: LockConfig) -> SqliteLock {
        self.lock().await.with_config(config).unwrap()
    }

    /// A connection that is no lock's.
    pub(crate) async fn connect(&self) -> SqliteConnection {
        SqliteConnection::connect_with(&self.options().busy_timeout(SOON)).await.unwrap()
    }

    /// Runs statements.
    pub(crate) async fn run(&self, sql: &str) {
        run(&mut self.connect().await, sql).await;
    }

    /// The one row of a query.
    pub(crate) async fn row<T: for<'r> FromRow<'r, SqliteRow> + Send + Unpin>(
        &self,
        sql: &str,
    ) -> T {
        let mut driver = self.connect().await;
        sqlx::query_as(AssertSqlSafe(sql)).fetch_one(&mut driver).await.unwrap()
    }

    /// How many descriptors of this process lead to the file, its log, or a watch on it.
    pub(crate) fn descriptors(&self) -> usize {
        let inode = std::fs::metadata(&self.path).map_or(0, |found| inode(&found));
        let watch = format!("ino:{inode:x} ");
        let path = self.path.to_str().unwrap();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter(|open| {
            let to = std::fs::read_link(open.path()).unwrap_or_default();
            let info = Path::new("/proc/self/fdinfo").join(open.file_name());
            let info = std::fs::read_to_string(info).unwrap_or_default();
            to.to_string_lossy().starts_with(path) || info.contains(&watch)
        })
        .count()
    }
}

fn inode(found: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(found)
}

/// Runs statements on a connection.
pub(crate) async fn run(driver: &mut SqliteConnection, sql: &str) {
    driver.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
}

impl Drop for TestFile {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm", "-journal"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.path.display()));
        }
    }
}
