//! A synchronous standby that is gone: commits wait for it, and may arrive late.

use std::{str::FromStr, time::Duration};

use glock_harness::assert_fault;
use glock_harness::server::PrivateServer;
use glock_postgres::{
    Fault, Lock, LockConfig, LockId, PostgresLock,
    sqlx::{self, PgPool, postgres::PgConnectOptions},
};
use tokio::time::{Instant, sleep};

use crate::support::{LONG, SOON, admin::lazy, x};

async fn set_standby(admin: &PgPool, names: &'static str) {
    sqlx::raw_sql(names).execute(admin).await.unwrap();
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(admin).await.unwrap();
}

const ABSENT: &str = "ALTER SYSTEM SET synchronous_standby_names = 'absent'";
const NONE: &str = "ALTER SYSTEM RESET synchronous_standby_names";

/// Its transaction is not visible before the standby has it, so the undo does not find the grant.
#[tokio::test]
#[ignore = "needs a server of its own: run `cargo xtask integration postgres`"]
async fn a_grant_that_is_committed_late_is_undone() {
    let server = PrivateServer::start().await.unwrap();
    let options = PgConnectOptions::from_str(&server.url).unwrap();
    let admin = lazy(options.clone());
    let limit = Duration::from_secs(5);
    let config = LockConfig::default().with_call_timeout(limit);
    let lock = PostgresLock::new(lazy(options)).with_config(config).unwrap();
    lock.ensure_schema().await.unwrap();
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    lock.release(&lease).await.unwrap();

    set_standby(&admin, ABSENT).await;
    let fresh = LockId::new("fresh").unwrap();
    // A reload takes effect a moment later.
    let since = Instant::now();
    loop {
        match lock.acquire(&fresh, LONG * 5).await {
            Err(err) => break assert_fault::<()>(Err(err), Fault::Unknown, ""),
            Ok(lease) => lock.release(&lease).await.unwrap(),
        }
        assert!(since.elapsed() < SOON, "the standby is not waited for");
    }
    // Longer than the undo of a request without a reply goes on.
    sleep(limit * 4).await;
    set_standby(&admin, NONE).await;
    let since = Instant::now();
    while lock.inspect(&fresh).await.unwrap().is_some() {
        assert!(since.elapsed() < SOON, "it has no holder, and is not free");
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(2)).await;
    assert!(lock.inspect(&fresh).await.unwrap().is_none(), "it was committed late");
    let lease = lock.acquire(&fresh, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
}
