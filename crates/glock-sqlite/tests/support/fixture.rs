//! `Sqlite`: a file for each case, as the conformance suite sees it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use glock_sqlite::{
    LockConfig, LockId, SqliteLock,
    sqlx::{
        self, Executor as _, SqlitePool,
        sqlite::{SqliteConnectOptions, SqlitePoolOptions},
    },
};
use glock_testing::{Fixture, process::role};

use crate::support::directory;

pub(crate) struct Sqlite {
    namespace: String,
    path: PathBuf,
    admin: SqlitePool,
}

impl Sqlite {
    fn key(&self, id: &LockId) -> String {
        format!("{}/{id}", self.namespace)
    }
}

impl Fixture for Sqlite {
    type Lock = SqliteLock;
    /// A reservation.
    const PASSED_OVER_MAX: Duration = Duration::from_millis(1_500);
    const RESERVES: bool = true;

    /// The file of a namespace is the same in every process.
    async fn open(namespace: String) -> Self {
        let path = directory().join(format!("{namespace}.db"));
        SqliteLock::open(&path).await.unwrap();
        let admin = admin(&path).await;
        Self { namespace, path, admin }
    }

    fn config(&self) -> LockConfig {
        LockConfig::default().with_namespace(&*self.namespace)
    }

    async fn client_with(&self, config: LockConfig) -> SqliteLock {
        let options = SqliteConnectOptions::new().filename(&self.path);
        SqliteLock::new(&options).unwrap().with_config(config).unwrap()
    }

    async fn owner(&self, id: &LockId) -> Option<String> {
        let owners = sqlx::query_as::<_, (String, i64)>(
            "SELECT owner, expires FROM distributed_lock WHERE lock_id = ?1 AND owner IS NOT NULL",
        );
        let owners = owners.bind(self.key(id)).fetch_optional(&self.admin).await.unwrap();
        owners.filter(|(_, expires)| *expires > now()).map(|(owner, _)| owner)
    }

    async fn live(&self) -> usize {
        let live = sqlx::query_scalar::<_, i64>(
            "SELECT count(*) FROM distributed_lock WHERE owner IS NOT NULL AND expires > ?1",
        );
        let live = live.bind(now()).fetch_one(&self.admin).await.unwrap();
        usize::try_from(live).unwrap()
    }

    async fn waiters(&self, id: &LockId) -> usize {
        let waiters = sqlx::query_scalar::<_, i64>(
            "SELECT coalesce(json_array_length(waiters), 0) FROM distributed_lock \
             WHERE lock_id = ?1",
        );
        let waiters = waiters.bind(self.key(id)).fetch_optional(&self.admin).await.unwrap();
        usize::try_from(waiters.unwrap_or_default()).unwrap()
    }

    async fn evict(&self, id: &LockId) {
        let evict = sqlx::query("UPDATE distributed_lock SET owner = NULL WHERE lock_id = ?1");
        self.admin.execute(evict.bind(self.key(id))).await.unwrap();
    }

    async fn forget(&self, id: &LockId) {
        let forget = sqlx::query("DELETE FROM distributed_lock WHERE lock_id = ?1");
        self.admin.execute(forget.bind(self.key(id))).await.unwrap();
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // A process that a case has started only uses the file.
        if role().is_some() {
            return;
        }
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", self.path.display()));
        }
    }
}

/// A connection that does what no lock does.
pub(crate) async fn admin(path: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(path);
    SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap()
}

/// The time that leases count on, in microseconds.
fn now() -> i64 {
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    uptime.tv_sec * 1_000_000 + uptime.tv_nsec / 1_000
}
