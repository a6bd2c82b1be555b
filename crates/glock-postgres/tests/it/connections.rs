//! Connections: ended by others, few, and none left behind.

use std::time::Duration;

use glock_postgres::{
    Fault, Lock, LockExt, PostgresLock, Retry,
    sqlx::{self, AssertSqlSafe},
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    database::{Database, LONG, SHORT, SOON, assert_fault, pair, x},
    notify::{asleep, listening},
};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_connection_that_an_admin_ended_is_not_noticed() {
    let db = Database::new().await;
    let lock = db.lock();
    // More than one, so that the second in the pool is dead as well.
    tokio::join!(pair_of(&lock, "a"), pair_of(&lock, "b"), pair_of(&lock, "c"));
    // At once, and after the connection has gone back to the pool.
    for pause in [Duration::ZERO, SHORT] {
        sleep(pause).await;
        assert!(db.terminate(false).await >= 1);
        let lease = lock.acquire(&x(), LONG).await.unwrap();
        sleep(pause).await;
        db.terminate(false).await;
        let lease = lock.renew(&lease, LONG).await.unwrap();
        sleep(pause).await;
        db.terminate(false).await;
        assert!(lock.inspect(&x()).await.unwrap().is_some());
        sleep(pause).await;
        db.terminate(false).await;
        lock.release(&lease).await.unwrap();
    }
    db.clean().await;
}

async fn pair_of(lock: &PostgresLock, name: &str) {
    let lease = lock.acquire_with_retry(name, LONG, Retry::NEVER).await.unwrap();
    lock.release(&lease).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_sleeper_whose_listener_was_ended_is_woken_all_the_same() {
    let db = Database::new().await;
    let (ours, theirs) = (db.lock(), db.lock());
    listening(&ours).await;
    for _ in 0..3 {
        let held = theirs.acquire(&x(), LONG).await.unwrap();
        let waiting = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
        });
        sleep(SHORT).await;
        assert_eq!(db.terminate(true).await, 1, "one connection listens");
        // Time to listen again.
        sleep(SHORT).await;
        assert!(!waiting.is_finished());
        let since = Instant::now();
        theirs.release(&held).await.unwrap();
        let lease = timeout(SOON, waiting).await.expect("not woken").unwrap().unwrap();
        assert!(since.elapsed() < SOON);
        ours.release(&lease).await.unwrap();
    }
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn one_connection_is_enough_and_none_is_too_few() {
    let db = Database::new().await;
    let pool = PostgresLock::pool_options().max_connections(1);
    let pool = pool.connect_lazy_with(db.client_options());
    let config = db.config().with_call_timeout(SOON);
    let lock = db.lock_on(pool.clone()).with_config(config).unwrap();
    let guard = lock.hold("x", LONG, Retry::NEVER).await.unwrap();
    let waiting = tokio::spawn({
        let lock = lock.clone();
        async move { lock.hold("x", LONG, Retry::within(LONG)).await }
    });
    sleep(SHORT).await;
    assert_eq!(db.connections().await, 2, "the pool's, and the one that listens");
    guard.release().await.unwrap();
    let guard = timeout(SOON, waiting).await.expect("not woken").unwrap().unwrap();

    // The application gets its connection, though the lock has just used it.
    let since = Instant::now();
    let taken = pool.acquire().await.unwrap();
    assert!(since.elapsed() < SHORT, "{:?}", since.elapsed());
    let since = Instant::now();
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Unavailable, "1 of 1 open, 0 idle");
    assert_fault(lock.inspect(&x()).await, Fault::Unavailable, "the pool is too small");
    assert!(since.elapsed() < SOON * 2);
    drop(taken);
    guard.release().await.unwrap();
    pair(&lock).await;
    pool.close().await;
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Rejected, "closed pool");
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_thousand_dropped_tries_leave_a_pool_that_works() {
    let db = Database::new().await;
    let lock = db.lock();
    pair(&lock).await;
    for n in 0..1_000_u64 {
        let patience = Duration::from_micros(n * 7 % 1_500);
        let _ = timeout(patience, lock.acquire(&x(), LONG)).await.map(|lease| {
            // Granted in time: nobody knows of the lease, and it is undone below.
            lease.is_ok()
        });
        if n % 100 == 99 {
            db.run("UPDATE {t} SET owner = NULL").await;
        }
    }
    sleep(SOON).await;
    db.run("UPDATE {t} SET owner = NULL").await;
    sleep(SHORT).await;
    assert!(lock.inspect(&x()).await.unwrap().is_none(), "a grant came late");
    pair(&lock).await;
    assert!(db.connections().await <= 4);
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_try_that_nobody_waits_for_is_not_sent() {
    let db = Database::new().await;
    let pool = PostgresLock::pool_options().max_connections(1);
    let pool = pool.connect_lazy_with(db.client_options());
    let lock = db.lock_on(pool.clone());
    let taken = pool.acquire().await.unwrap();
    for _ in 0..20 {
        assert!(timeout(Duration::from_millis(5), lock.acquire(&x(), LONG)).await.is_err());
    }
    drop(taken);
    sleep(SHORT).await;
    let sql = format!("SELECT count(*) FROM \"{}\"", db.table);
    let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql));
    assert_eq!(query.fetch_one(&db.admin).await.unwrap(), 0, "it was sent");
    pair(&lock).await;
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn nothing_is_left_of_a_lock_that_is_dropped() {
    let db = Database::new().await;
    let (ours, theirs) = (db.lock(), db.lock().without_listener());
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    drop(asleep(&db, &ours).await);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert!(tasks() > 0);
    let clone = ours.clone();
    drop(ours);
    sleep(SHORT).await;
    assert_eq!(db.terminate(true).await, 1, "a clone still listens");
    drop(clone);
    theirs.release(&held).await.unwrap();
    drop(theirs);
    db.until_connections(0).await;
    db.clean().await;
}

/// A clock that is moved, on a runtime of its own.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn the_listening_connection_is_closed_when_nobody_has_slept_for_a_minute() {
    let db = Database::new().await;
    let (ours, theirs) = (db.lock(), db.lock().without_listener());
    let held = theirs.acquire(&x(), LONG * 60).await.unwrap();
    let sleeper = asleep(&db, &ours).await;
    for _ in 0..6 {
        forward(Duration::from_secs(30)).await;
    }
    assert_eq!(db.terminate(true).await, 1, "it stays while somebody sleeps");
    sleep(SHORT).await;
    sleeper.abort();
    let _ = sleeper.await;
    let sleeper = asleep(&db, &ours).await;
    theirs.release(&held).await.unwrap();
    timeout(SOON, sleeper).await.expect("not woken").unwrap().unwrap();
    let listening = || async {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE application_name = $1 AND query LIKE 'LISTEN%'";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(&db.table);
        query.fetch_one(&db.admin).await.unwrap()
    };
    assert_eq!(listening().await, 1);
    for _ in 0..5 {
        forward(Duration::from_secs(16)).await;
    }
    sleep(SHORT).await;
    assert_eq!(listening().await, 0, "it outlives its use");
    // And is made again.
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let sleeper = asleep(&db, &ours).await;
    theirs.release(&held).await.unwrap();
    timeout(SOON, sleeper).await.expect("not woken").unwrap().unwrap();
    db.clean().await;
}

async fn forward(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
    sleep(Duration::from_millis(30)).await;
}

#[test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
fn a_lock_may_outlive_its_runtime() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let (db, lock, sleeper) = first.block_on(async {
        let db = Database::new().await;
        let (ours, theirs) = (db.lock(), db.lock());
        let _held = theirs.acquire(&x(), LONG).await.unwrap();
        let sleeper = asleep(&db, &ours).await;
        (db, ours, sleeper)
    });
    drop(first);
    drop(sleeper);
    // The listening task went with its runtime; another is started where it is needed.
    let again = second.block_on(async {
        let again = Database::bare().await;
        let renamed = again.config().with_table(&db.table);
        let (ours, theirs) = (lock.clone(), again.lock().with_config(renamed).unwrap());
        let waited = timeout(SOON, ours.wait(&x(), SHORT)).await;
        assert!(waited.is_ok(), "the wait never ended");
        assert!(theirs.acquire(&x(), LONG).await.is_err(), "it is still held");
        again.run(format!("DROP TABLE \"{}\"", db.table)).await;
        theirs
    });
    drop(second);
    // Neither outside of a runtime nor after its end does anything panic.
    drop((lock, again));
}
