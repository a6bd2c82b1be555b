//! Statements that meet a locked row or the server's own time limit: they fail in time.

use std::time::Duration;

use glock_harness::assert_fault;
use glock_postgres::{Fault, Lock, LockError};
use tokio::time::{Instant, sleep};

use crate::support::{LONG, SHORT, SOON, admin::Admin, pair, x};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_row_that_another_transaction_keeps_locked_is_not_waited_for_for_ever() {
    let admin = Admin::open().await;
    // A statement waits for three tenths of it: so much earlier than the call would end by itself.
    let config = admin.config().with_call_timeout(Duration::from_secs(3));
    let lock = admin.lock().with_config(config).unwrap();
    pair(&lock).await;
    let locked = admin.transaction("SELECT FROM {t} FOR UPDATE").await;
    let since = Instant::now();
    let refused = lock.acquire(&x(), LONG).await;
    assert_fault(refused, Fault::Unavailable, "another transaction holds a lock on the row");
    locked.rollback().await.unwrap();
    assert_eq!(admin.value::<Option<String>>("owner").await, None);

    let lease = lock.acquire(&x(), LONG).await.unwrap();
    let locked = admin.transaction("SELECT FROM {t} FOR UPDATE").await;
    assert_fault(lock.renew(&lease, LONG).await, Fault::Unavailable, "end it");
    assert_fault(lock.release(&lease).await, Fault::Unavailable, "end it");
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    // What only reads does not wait.
    assert!(lock.inspect(&x()).await.unwrap().is_some());
    assert!(matches!(lock.acquire(&x(), LONG).await, Err(LockError::Held { .. })));
    locked.rollback().await.unwrap();
    lock.release(&lease).await.unwrap();
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_statement_that_an_admin_cancels_is_undone() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    let locked = admin.transaction("SELECT FROM {t} FOR UPDATE").await;
    let acquiring = tokio::spawn({
        let lock = lock.clone();
        async move { lock.acquire(&x(), LONG).await }
    });
    admin.until_blocked().await;
    assert!(admin.cancel_calls().await >= 1);
    assert_fault(acquiring.await.unwrap(), Fault::Unknown, "canceling statement");
    locked.rollback().await.unwrap();
    sleep(SHORT).await;
    assert!(lock.inspect(&x()).await.unwrap().is_none());
    pair(&lock).await;
    admin.clean().await;
}
