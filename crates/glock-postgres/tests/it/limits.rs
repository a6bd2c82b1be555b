//! Servers that are busy, locked, read-only or elsewhere: told in time and for what it is.

use std::time::Duration;

use glock_postgres::{
    Fault, Invalid, Lock, LockError, PostgresLock,
    sqlx::postgres::{PgConnectOptions, PgSslMode},
};
use tokio::time::{Instant, sleep};

use crate::database::{Database, LONG, SHORT, assert_fault, pair, x};

const LIMIT: Duration = Duration::from_secs(1);

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_row_that_somebody_keeps_locked_is_not_waited_for_for_ever() {
    let db = Database::new().await;
    let config = db.config().with_call_timeout(LIMIT);
    let lock = db.lock().with_config(config).unwrap();
    pair(&lock).await;
    let locked = db.open("SELECT FROM {t} FOR UPDATE").await;
    let since = Instant::now();
    let refused = lock.acquire(&x(), LONG).await;
    assert_fault(refused, Fault::Unavailable, "another transaction holds a lock on the row");
    assert!(since.elapsed() < LIMIT, "{:?}", since.elapsed());
    locked.rollback().await.unwrap();
    assert_eq!(db.value::<Option<String>>("owner").await, None);

    let lease = lock.acquire(&x(), LONG).await.unwrap();
    let locked = db.open("SELECT FROM {t} FOR UPDATE").await;
    let since = Instant::now();
    assert_fault(lock.renew(&lease, LONG).await, Fault::Unavailable, "end it");
    assert_fault(lock.release(&lease).await, Fault::Unavailable, "end it");
    assert!(since.elapsed() < LIMIT * 2, "{:?}", since.elapsed());
    // Who only looks is not held up.
    assert!(lock.inspect(&x()).await.unwrap().is_some());
    assert!(matches!(lock.acquire(&x(), LONG).await, Err(LockError::Held { .. })));
    locked.rollback().await.unwrap();
    lock.release(&lease).await.unwrap();
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_statement_that_the_server_cuts_off_is_undone() {
    let db = Database::new().await;
    let options = db.client_options().options([("statement_timeout", "200ms")]);
    let lock = db.lock_with(options, 4);
    pair(&lock).await;
    let locked = db.open("SELECT FROM {t} FOR UPDATE").await;
    let since = Instant::now();
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Unknown, "statement timeout");
    assert!(since.elapsed() < LIMIT, "{:?}", since.elapsed());
    locked.rollback().await.unwrap();
    sleep(SHORT * 3).await;
    assert!(lock.inspect(&x()).await.unwrap().is_none());
    pair(&lock).await;
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_read_only_server_is_not_the_primary() {
    let db = Database::new().await;
    let options = db.client_options().options([("default_transaction_read_only", "on")]);
    let lock = db.lock_with(options, 4);
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Unavailable, "connect to the primary");
    assert!(lock.inspect(&x()).await.unwrap().is_none());
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_server_that_cannot_be_used_says_why() {
    let db = Database::new().await;
    let url = |password: &str, port: u16, database: &str| {
        let options = &db.options;
        format!(
            "postgres://{}:{password}@{}:{port}/{database}",
            options.get_username(),
            options.get_host()
        )
    };
    let port = db.options.get_port();
    assert_fault(
        PostgresLock::connect(&url("wrong", port, "postgres")).await,
        Fault::Rejected,
        "password authentication failed",
    );
    let lock = db.lock_with(db.client_options().database("no_such_database"), 1);
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Rejected, "does not exist");
    // Without one of sqlx's TLS features, nothing is sent in the clear.
    let lock = db.lock_with(db.client_options().ssl_mode(PgSslMode::Require), 1);
    let result = lock.acquire(&x(), LONG).await;
    assert_eq!(result.unwrap_err().fault(), Some(Fault::Rejected));
    for bad in ["", "no url", "redis://127.0.0.1", "postgres://127.0.0.1:port"] {
        let result = PostgresLock::connect(bad).await;
        assert!(
            matches!(result, Err(LockError::Invalid(Invalid { what: "url", .. }))),
            "{bad}: {result:?}"
        );
    }
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_listener_that_cannot_be_made_fails_the_wait_and_not_the_lock() {
    let db = Database::new().await;
    let elsewhere: PgConnectOptions = db.client_options().database("no_such_database");
    let (ours, theirs) = (db.lock().with_listener(elsewhere), db.lock());
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    let mut waited = ours.wait(&x(), LONG).await;
    for _ in 0..20 {
        if waited.is_err() {
            break;
        }
        waited = ours.wait(&x(), LONG).await;
    }
    assert_fault(waited, Fault::Rejected, "no_such_database");
    theirs.release(&lease).await.unwrap();
    pair(&ours).await;
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_listener_on_another_database_turns_out_to_be_deaf() {
    use glock_postgres::Waiting;
    let db = Database::new().await;
    let elsewhere = db.client_options().database("template1");
    let (ours, theirs) = (db.lock().with_listener(elsewhere), db.lock());
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    let since = Instant::now();
    while ours.capabilities().waiting == Waiting::Pushed {
        assert!(since.elapsed() < LIMIT * 10, "it was never noticed");
        ours.wait(&x(), LONG).await.unwrap();
    }
    let asked = Instant::now();
    ours.wait(&x(), LONG).await.unwrap();
    assert!(asked.elapsed() < LIMIT, "waiters ask instead");
    theirs.release(&lease).await.unwrap();
    db.clean().await;
}
