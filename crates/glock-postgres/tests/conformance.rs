//! The conformance suite against the server that `GLOCK_POSTGRES_URL` names.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod support;

use std::time::Duration;

use glock_postgres::{
    Lock, LockId,
    sqlx::{ConnectOptions, Connection, Executor},
};
use glock_testing::Fixture;
use tokio::time::{Instant, sleep};

use crate::support::{SOON, fixture::Postgres};

glock_testing::conformance!(Postgres, "needs a server: run `cargo xtask integration postgres`");
glock_testing::admin_conformance!(
    Postgres,
    "needs a server: run `cargo xtask integration postgres`"
);

/// A row that is marked free stays, as the README says; all else counts. The server reports a session's
/// state a moment after its reply, so each count is waited for.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn what_is_left_is_counted() {
    let postgres = Postgres::open(glock_testing::fresh_namespace()).await;
    let (lock, x) = (postgres.client().await, LockId::new("x").unwrap());
    let residue = async |what, count| {
        let since = Instant::now();
        loop {
            let counted = postgres.residue().await;
            if counted == count {
                return;
            }
            assert!(since.elapsed() < SOON, "{what} counts as {counted}");
            sleep(Duration::from_millis(10)).await;
        }
    };
    residue("nothing", 0).await;
    let lease = lock.acquire(&x, Duration::from_mins(1)).await.unwrap();
    residue("a hold", 1).await;
    lock.release(&lease).await.unwrap();
    residue("a row that is marked free", 0).await;
    let mut session = postgres.options.connect().await.unwrap();
    session.execute("BEGIN").await.unwrap();
    residue("a transaction that is left open", 1).await;
    assert!(session.execute("SELECT 1 / 0").await.is_err());
    residue("one that failed", 1).await;
    session.execute("ROLLBACK").await.unwrap();
    residue("one that was rolled back", 0).await;
    session
        .execute("SELECT pg_advisory_lock(1, hashtext(current_setting('application_name')))")
        .await
        .unwrap();
    residue("an advisory lock", 1).await;
    session.close().await.unwrap();
    residue("a session that has ended", 0).await;
}
