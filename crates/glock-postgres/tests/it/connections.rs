//! Connections: ended by others, and few.

use std::{num::NonZeroU32, time::Duration};

use glock_harness::assert_fault;
use glock_postgres::{
    Fault, Lock, LockExt, LockId, PostgresLock, Retry,
    sqlx::{self, AssertSqlSafe, postgres::PgPoolOptions},
};
use glock_testing::process::settles;
use tokio::time::{sleep, timeout};

use crate::support::{
    LONG, SHORT, SOON,
    admin::{Admin, lazy},
    pair, tasks, x,
};

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
async fn one_connection_is_enough_and_the_pool_s_are_not_used() {
    let admin = Admin::open().await;
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(admin.client_options());
    // The application uses all that its pool has.
    let taken = pool.acquire().await.unwrap();
    let lock = admin.lock_on(pool.clone()).with_max_connections(NonZeroU32::MIN);
    let guard = lock.hold("x", LONG, Retry::NEVER).await.unwrap();
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.hold("x", LONG, Retry::within(LONG)).await }
    });
    admin.until_listening(1).await;
    // The application's, the lock's, and the one that listens.
    admin.until_connections(3).await;
    guard.release().await.unwrap();
    let guard = timeout(SOON, waiting).await.expect("not woken").unwrap().unwrap();
    guard.release().await.unwrap();
    drop(taken);
    drop(lock);
    admin.until_connections(1).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_closed_pool_ends_every_wait_and_no_hold() {
    let admin = Admin::open().await;
    let pool = lazy(admin.client_options());
    let (ours, theirs) = (admin.lock_on(pool.clone()), admin.lock());
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    // A busy machine renews it in time.
    let ttl = Duration::from_secs(5);
    let guard = ours.hold("y", ttl, Retry::NEVER).await.unwrap();
    let waiter = admin.sleeping_waiter(&ours).await;
    let holding = tokio::spawn({
        let ours = ours.clone();
        async move { ours.hold("x", LONG, Retry::within(LONG)).await.map(drop) }
    });
    pool.close().await;
    let ended = timeout(SOON, waiter).await.expect("it learns of it at the expiry").unwrap();
    assert_fault(ended, Fault::Rejected, "closed pool");
    let ended = timeout(SOON, holding).await.expect("it learns of it at the expiry").unwrap();
    assert_fault(ended, Fault::Rejected, "closed pool");
    assert_fault(ours.acquire(&x(), LONG).await, Fault::Rejected, "closed pool");
    sleep(ttl * 2).await;
    assert!(guard.is_valid(), "it was not renewed");
    guard.release().await.unwrap();
    theirs.release(&held).await.unwrap();
    drop(theirs);
    // The lock itself is still there.
    admin.until_connections(0).await;
    drop(ours);
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn an_attempt_whose_caller_left_is_not_sent() {
    let admin = Admin::open().await;
    let lock = admin.lock().with_max_connections(NonZeroU32::MIN);
    pair(&lock).await;
    admin.run("DELETE FROM {t}").await;
    let (locked, idle) = (admin.transaction("LOCK TABLE {t}").await, tasks());
    // The one connection is in use.
    let y = LockId::new("y").unwrap();
    let first = lock.inspect(&y);
    tokio::pin!(first);
    assert!(timeout(SHORT, &mut first).await.is_err());
    for _ in 0..20 {
        assert!(timeout(Duration::from_millis(5), lock.acquire(&x(), LONG)).await.is_err());
    }
    assert!(tasks() > idle, "the attempts wait for a connection");
    locked.rollback().await.unwrap();
    assert!(first.await.unwrap().is_none());
    settles("the attempts", SOON, idle, async || tasks()).await;
    let sql = format!("SELECT count(*) FROM \"{}\"", admin.table);
    let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql));
    assert_eq!(query.fetch_one(&admin.pool).await.unwrap(), 0, "it was sent");
    pair(&lock).await;
    admin.clean().await;
}
