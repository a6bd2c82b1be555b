//! Neither passwords nor owner tokens are shown.

use std::{error::Error, fmt::Write};

use glock_mongodb::{
    Lock, LockError,
    mongodb::{bson::doc, options::Credential},
};
use glock_testing::CANARY;

use crate::support::{
    LONG,
    admin::{Admin, BRIEF},
    pair, x,
};

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

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_document_that_the_server_quotes_is_not_repeated() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    // The server quotes the value that broke the index: the owner token.
    let index = doc! { "key": { "owner": 1 }, "name": "bad", "unique": true };
    let create = doc! { "createIndexes": &admin.name, "indexes": [index] };
    admin.locks.client().database("glock_test").run_command(create).await.unwrap();
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    let token = lease.owner().reveal().to_owned();
    let other = doc! { "_id": admin.key("y"), "owner": null };
    admin.locks.insert_one(other).await.unwrap();
    // Both documents would then have no owner.
    let err = lock.release(&lease).await.unwrap_err();
    let shown = everything(&err);
    assert!(!shown.contains(&token), "{shown}");
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_password_is_shown_by_nothing() {
    let admin = Admin::open().await;
    let stranger = || {
        let credential = Credential::builder().username("u".to_owned());
        let credential = credential.password(CANARY.to_owned()).build();
        let lock = admin.lock_with(|options| options.credential = Some(credential));
        lock.with_config(admin.config().with_call_timeout(BRIEF)).unwrap()
    };
    let mut shown = String::new();
    for lock in [stranger(), stranger().without_watch()] {
        for err in [
            lock.acquire(&x(), LONG).await.map(drop).unwrap_err(),
            lock.inspect(&x()).await.map(drop).unwrap_err(),
            lock.ensure_schema().await.unwrap_err(),
        ] {
            shown.push_str(&everything(&err));
        }
        let _ = lock.wait(&x(), BRIEF).await.map_err(|err| shown.push_str(&everything(&err)));
        write!(shown, "{lock:?} {lock:#?}").unwrap();
    }
    assert!(shown.contains("refuses the credentials"), "{shown}");
    assert!(!shown.contains(CANARY), "{shown}");
    admin.clean().await;
}
