//! A process that is killed in the middle of a transaction.

use std::time::Duration;

use glock_sqlite::{
    Fault, Lock, LockConfig, LockError,
    sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions},
};
use glock_testing::process::{Child, role, tell};

use crate::support::{
    LONG, SOON,
    admin::{TestFile, run},
    pair, x,
};

const PATH: &str = "GLOCK_SQLITE_TEST_PATH";

/// What it wrote and did not commit never was, and its lock on the file goes with it.
#[tokio::test]
async fn a_transaction_of_a_killed_process_leaves_nothing() {
    let file = TestFile::new();
    let config = LockConfig::default().with_call_timeout(Duration::from_secs(2));
    let lock = file.lock_with(config).await;
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    let variables = [(PATH, file.path.to_str().unwrap())];
    let mut child = Child::start("crash::write_until_killed", "writer", &variables).unwrap();
    assert_eq!(child.line().await.unwrap().as_deref(), Some("written"));
    let blocked = lock.renew(&lease, LONG).await.unwrap_err();
    assert_eq!(blocked.fault(), Some(Fault::Unavailable), "{blocked:?}");
    child.kill_9().await.unwrap();

    let lock = file.lock().await;
    let refused = lock.acquire(&x(), LONG).await;
    assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    assert!(pair(&lock).await > lease.fence().get());
    let (sound,): (String,) = file.row("PRAGMA integrity_check").await;
    assert_eq!(sound, "ok");
}

/// Not a test: what the process does.
#[tokio::test]
#[ignore = "run by a test in a process of its own"]
async fn write_until_killed() {
    if role().as_deref() != Some("writer") {
        return;
    }
    let options = SqliteConnectOptions::new().filename(std::env::var(PATH).unwrap());
    let mut driver = SqliteConnection::connect_with(&options).await.unwrap();
    // More than its cache keeps, so that a part of it is in the log.
    run(
        &mut driver,
        "PRAGMA cache_size = 1; BEGIN IMMEDIATE; UPDATE distributed_lock SET owner = NULL; \
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
        INSERT INTO distributed_lock (lock_id, owner, fence, expires, holder, waited_until) \
           SELECT 'left' || i, 'x', i, i, hex(randomblob(100)), 0 FROM n",
    )
    .await;
    tell("written").unwrap();
    tokio::time::sleep(SOON).await;
}
