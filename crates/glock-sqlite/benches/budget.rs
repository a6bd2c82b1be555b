//! A lock on SQLite beside the bare driver doing the same writes, on a file in the directory of temporary
//! files, or beside the one that `GLOCK_SQLITE_URL` names.

use std::{
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_harness::bench::Raw;
use glock_sqlite::{
    LockConfig, SqliteLock,
    sqlx::{
        self, Connection as _, SqliteConnection, SqlitePool,
        sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous},
    },
};
use glock_testing::fresh_namespace;
use tokio::time::sleep;

/// What an engineer would type: SQLite has one writer at a time, so one connection writes. All rows are read,
/// because the driver's `fetch_one` returns before it knows whether the commit failed.
#[derive(Clone)]
struct ByHand {
    pool: SqlitePool,
    options: SqliteConnectOptions,
    namespace: Arc<str>,
    owners: Arc<AtomicU64>,
}

/// How often a waiter asks for changes.
const POLL: Duration = Duration::from_millis(1);

const ACQUIRE: &str = "INSERT INTO distributed_lock AS l \
       (lock_id, owner, fence, expires, holder, waited_until) \
     VALUES (?1, ?2, 1, unixepoch('subsec') * 1000000 + 60000000, 'bench', 0) \
     ON CONFLICT (lock_id) DO UPDATE SET owner = excluded.owner, fence = l.fence + 1, \
       expires = excluded.expires, holder = excluded.holder \
     WHERE l.owner IS NULL OR l.expires <= unixepoch('subsec') * 1000000 \
     RETURNING fence";

const RELEASE: &str = "UPDATE distributed_lock SET owner = NULL \
     WHERE lock_id = ?1 AND owner = ?2 RETURNING true";

impl ByHand {
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.namespace)
    }
}

async fn version(driver: &mut SqliteConnection) -> i64 {
    let version = sqlx::query_scalar("PRAGMA data_version").fetch_one(driver);
    version.await.expect("a connection")
}

impl Raw for ByHand {
    type Grant = String;
    type Listener = (SqliteConnection, i64);

    async fn acquire(&self, name: &str) -> String {
        let owner = format!("{:032x}", self.owners.fetch_add(1, Relaxed));
        let query = sqlx::query_scalar::<_, i64>(ACQUIRE).bind(self.key(name)).bind(owner.clone());
        let granted = query.fetch_all(&self.pool).await.expect("a file");
        assert!(!granted.is_empty(), "a lock that is free");
        owner
    }

    async fn release(&self, name: &str, owner: String) {
        let query = sqlx::query_scalar::<_, bool>(RELEASE).bind(self.key(name)).bind(owner);
        let released = query.fetch_all(&self.pool).await.expect("a file");
        assert!(!released.is_empty(), "a lock that is held");
    }

    async fn listen(&self, _name: &str) -> Self::Listener {
        let mut driver = SqliteConnection::connect_with(&self.options).await.expect("a file");
        let seen = version(&mut driver).await;
        (driver, seen)
    }

    async fn released(&self, (driver, seen): &mut Self::Listener) {
        while version(driver).await == *seen {
            sleep(POLL).await;
        }
    }
}

fn main() -> ExitCode {
    let url = std::env::var("GLOCK_SQLITE_URL").ok();
    let beside = url.as_deref().and_then(|url| Path::new(url.strip_prefix("sqlite:")?).parent());
    let directory = beside.map_or_else(std::env::temp_dir, Path::to_owned);
    let path = directory.join(format!("{}.db", fresh_namespace()));
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .synchronous(SqliteSynchronous::Normal);
    let config = LockConfig::default().with_namespace(fresh_namespace());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let holds = runtime.block_on(async {
        let lock = || SqliteLock::new(&options).expect("a path").with_config(config.clone());
        let (lock, second) = (lock().expect("settings"), lock().expect("settings"));
        SqliteLock::open(&path).await.expect("a file");
        let raw = ByHand {
            pool: SqlitePoolOptions::new()
                .max_connections(1)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone()),
            options,
            namespace: fresh_namespace().into(),
            owners: Arc::default(),
        };
        glock_harness::bench::run("sqlite", lock, second, raw).await
    });
    drop(runtime);
    for end in ["", "-wal", "-shm"] {
        // Only its own file is left to the system.
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
