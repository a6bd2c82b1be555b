//! Neither passwords nor owner tokens are shown, not even by what PostgreSQL says.

use std::{error::Error, fmt::Write};

use glock_postgres::{Fault, Lock, LockError};
use glock_testing::CANARY;

use crate::database::{Database, LONG, chain, pair, x};

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
    let db = Database::new().await;
    let lock = db.lock();
    pair(&lock).await;
    // The server quotes the failing row, with the owner token in it.
    db.run("ALTER TABLE {t} ADD CONSTRAINT no_owner CHECK (owner IS NULL)").await;
    let err = lock.acquire(&x(), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected));
    let shown = everything(&err);
    assert!(!has_token(&shown), "{shown}");
    assert!(chain(&err).contains("23514"), "{}", chain(&err));
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_password_is_shown_by_nothing() {
    let db = Database::new().await;
    let stranger = db.client_options().password(CANARY);
    let locks = [
        db.lock_with(stranger.clone(), 1),
        db.lock().with_listener(stranger.clone()),
        db.lock_with(stranger.clone(), 1).without_listener(),
    ];
    let mut shown = String::new();
    for lock in &locks {
        for _ in 0..5 {
            let results = [
                lock.acquire(&x(), LONG).await.map(drop),
                lock.wait(&x(), LONG).await,
                lock.inspect(&x()).await.map(drop),
                lock.ensure_schema().await,
            ];
            for err in results.into_iter().filter_map(Result::err) {
                shown.push_str(&everything(&err));
            }
            if let Ok(lease) = lock.acquire(&x(), LONG).await {
                lock.release(&lease).await.unwrap();
            }
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
    db.clean().await;
}
