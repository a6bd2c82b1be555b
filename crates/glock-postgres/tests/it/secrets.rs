//! Neither passwords nor owner tokens are shown, not even in PostgreSQL's own errors.

use std::{error::Error, fmt::Write};

use glock_harness::chain;
use glock_postgres::{Fault, Lock, LockError};
use glock_testing::CANARY;
use tokio::time::Instant;

use crate::support::{LONG, SOON, admin::Admin, pair, x};

/// An error and its causes, in every form.
fn everything(err: &LockError) -> String {
    let mut shown = format!("{err} {err:?} {err:#?}");
    let mut cause = err.source();
    while let Some(err) = cause {
        write!(shown, " {err} {err:?} {err:#?}").unwrap();
        cause = err.source();
    }
    shown
}

/// A random owner token: 32 hexadecimal digits.
fn has_token(shown: &str) -> bool {
    let words = shown.split(|c: char| !c.is_ascii_hexdigit());
    words.into_iter().any(|word| word.len() == 32)
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_row_that_the_server_quotes_is_not_repeated() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    // The server quotes the failing row, with the owner token in it.
    admin.run("ALTER TABLE {t} ADD CONSTRAINT no_owner CHECK (owner IS NULL)").await;
    let err = lock.acquire(&x(), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected));
    let shown = everything(&err);
    assert!(!has_token(&shown), "{shown}");
    assert!(chain(&err).contains("23514"), "{}", chain(&err));
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_password_is_shown_by_nothing() {
    let admin = Admin::open().await;
    let stranger = admin.client_options().password(CANARY);
    let locks = [
        admin.lock_with(stranger.clone(), 1),
        admin.lock().with_listener(stranger.clone()),
        admin.lock_with(stranger.clone(), 1).without_listener(),
    ];
    let mut shown = String::new();
    for lock in &locks {
        let (mut errors, since) = (0, Instant::now());
        while errors < 3 {
            assert!(since.elapsed() < SOON, "nothing fails: {shown}");
            let results = [
                lock.acquire(&x(), LONG).await.map(drop),
                lock.wait(&x(), LONG).await,
                lock.inspect(&x()).await.map(drop),
                lock.ensure_schema().await,
            ];
            for err in results.into_iter().filter_map(Result::err) {
                shown.push_str(&everything(&err));
                errors += 1;
            }
            admin.run("UPDATE {t} SET owner = NULL").await;
        }
        write!(shown, "{lock:?} {lock:#?}").unwrap();
    }
    for url in [
        format!("postgres://u:{CANARY}@h:port/d"),
        format!("postgres://u:{CANARY}@127.0.0.1:1/d?sslmode={CANARY}"),
        CANARY.into(),
    ] {
        let err = glock_postgres::PostgresLock::connect(&url).await.unwrap_err();
        shown.push_str(&everything(&err));
    }
    assert!(shown.contains("28P01"), "no password was refused: {shown}");
    assert!(!shown.contains(CANARY), "{shown}");
    admin.clean().await;
}
