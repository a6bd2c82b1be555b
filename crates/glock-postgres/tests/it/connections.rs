//! Connections: ended by others, and few.

use std::time::Duration;

use glock_postgres::{
    Fault, Lock, LockExt, PostgresLock, Retry,
    sqlx::{self, AssertSqlSafe},
};
use glock_testing::process::settles;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{LONG, SHORT, SOON, admin::Admin, assert_fault, pair, tasks, x};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_connection_that_an_admin_ended_is_replaced() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    // More than one, so that the second in the pool is dead as well.
    tokio::join!(pair_of(&lock, "a"), pair_of(&lock, "b"), pair_of(&lock, "c"));
    // At once, and after the connection has gone back to the pool.
    for pause in [Duration::ZERO, SHORT] {
        sleep(pause).await;
        assert!(admin.end_calls().await >= 1);
        let lease = lock.acquire(&x(), LONG).await.unwrap();
        sleep(pause).await;
        admin.end_calls().await;
        let lease = lock.renew(&lease, LONG).await.unwrap();
        sleep(pause).await;
        admin.end_calls().await;
        assert!(lock.inspect(&x()).await.unwrap().is_some());
        sleep(pause).await;
        admin.end_calls().await;
        lock.release(&lease).await.unwrap();
    }
    admin.clean().await;
}

async fn pair_of(lock: &PostgresLock, name: &str) {
    let lease = lock.acquire_with_retry(name, LONG, Retry::NEVER).await.unwrap();
    lock.release(&lease).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn one_connection_is_enough_and_none_is_too_few() {
    let admin = Admin::open().await;
    let pool = PostgresLock::pool_options().max_connections(1);
    let pool = pool.connect_lazy_with(admin.client_options());
    let config = admin.config().with_call_timeout(Duration::from_secs(2));
    let lock = admin.lock_on(pool.clone()).with_config(config).unwrap();
    let guard = lock.hold("x", LONG, Retry::NEVER).await.unwrap();
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.hold("x", LONG, Retry::within(LONG)).await }
    });
    // The pool's, and the one that listens.
    admin.until_connections(2).await;
    admin.until_listening(1).await;
    guard.release().await.unwrap();
    let guard = timeout(SOON, waiting).await.expect("not woken").unwrap().unwrap();

    // The application gets its connection, though the lock has just used it. Where others are left, the
    // lock keeps one for ten seconds.
    let taken = timeout(SOON / 4, pool.acquire()).await.expect("the lock keeps it").unwrap();
    let since = Instant::now();
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Unavailable, "1 of 1 open, 0 idle");
    assert_fault(lock.inspect(&x()).await, Fault::Unavailable, "the pool is too small");
    assert!(since.elapsed() < SOON);
    drop(taken);
    guard.release().await.unwrap();
    pair(&lock).await;
    pool.close().await;
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Rejected, "closed pool");
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn an_attempt_whose_caller_left_is_not_sent() {
    let admin = Admin::open().await;
    let pool = PostgresLock::pool_options().max_connections(1);
    let pool = pool.connect_lazy_with(admin.client_options());
    let lock = admin.lock_on(pool.clone());
    let (taken, idle) = (pool.acquire().await.unwrap(), tasks());
    for _ in 0..20 {
        assert!(timeout(Duration::from_millis(5), lock.acquire(&x(), LONG)).await.is_err());
    }
    assert!(tasks() > idle, "the attempts wait for a connection");
    drop(taken);
    settles("the attempts", SOON, idle, async || tasks()).await;
    let sql = format!("SELECT count(*) FROM \"{}\"", admin.table);
    let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql));
    assert_eq!(query.fetch_one(&admin.pool).await.unwrap(), 0, "it was sent");
    pair(&lock).await;
    admin.clean().await;
}
