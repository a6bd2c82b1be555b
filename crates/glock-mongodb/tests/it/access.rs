//! Servers that cannot be used: the error says why.

use glock_harness::assert_fault;
use glock_mongodb::{
    Fault, Lock, LockExt, Retry,
    mongodb::options::{Credential, ServerAddress},
};

use crate::support::{
    LONG,
    admin::{Admin, BRIEF},
    x,
};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_server_that_cannot_be_used_says_why() {
    let admin = Admin::open().await;
    let closed = ServerAddress::Tcp { host: "127.0.0.1".into(), port: Some(1) };
    let brief = admin.config().with_call_timeout(BRIEF);
    let lock = admin.lock_with(|options| options.hosts = vec![closed]);
    let lock = lock.with_config(brief.clone()).unwrap();
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Unavailable, "no primary was found");

    let wrong = Credential::builder().username("u".to_owned()).password("wrong".to_owned()).build();
    let lock = admin.lock_with(|options| options.credential = Some(wrong));
    let lock = lock.with_config(brief).unwrap();
    let refused = "the server refuses the credentials";
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Rejected, refused);
    // The driver now waits for its next look at the server; the reason is not forgotten.
    assert_fault(lock.acquire(&x(), LONG).await, Fault::Rejected, refused);
    let waited = lock.acquire_with_retry("x", LONG, Retry::within(LONG)).await;
    assert_fault(waited, Fault::Rejected, refused);
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_collection_that_is_missing_is_made_by_the_first_acquire() {
    let admin = Admin::bare().await;
    let lock = admin.lock();
    assert!(lock.inspect(&x()).await.unwrap().is_none());
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    lock.ensure_schema().await.unwrap();
    admin.clean().await;
}
