//! What no error and no `Debug` shows.

use std::fmt::Write;

use glock_dynamodb::{Fault, Lock, LockError, aws_sdk_dynamodb::config::Credentials};
use glock_harness::chain;

use crate::support::{
    LONG,
    admin::{Admin, conf},
    fake_server::FakeServer,
    x,
};

const SECRET: &str = "CANARY-7f3a9c";

/// All that a program may print of an error.
fn shown(err: &LockError) -> String {
    let mut shown = format!("{} {err:?} {err:#?}", chain(err));
    let mut cause = std::error::Error::source(err);
    while let Some(err) = cause {
        write!(shown, "{err:?} {err:#?}").unwrap();
        cause = err.source();
    }
    shown
}

/// A reply that cannot be read, and has the holder's owner token in it.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn no_error_repeats_a_reply() {
    for (status, body) in [
        (200, format!(r#"{{"Attributes": {{"owner": {{"S": "{SECRET}"}}, "fence": 7}}}}"#)),
        (200, format!(r#"{{"Attributes": {{"owner": {{"S": "{SECRET}"}}}}}}"#)),
        (200, format!("{SECRET} is no JSON")),
        (
            400,
            format!(
                r#"{{"__type":"ConditionalCheckFailedException","Item":{{"owner":{{"S":"{SECRET}"}}}}}}"#
            ),
        ),
        (
            400,
            format!(
                r#"{{"__type":"ConditionalCheckFailedException","Item":{{"owner":"{SECRET}"}}}}"#
            ),
        ),
        (502, format!("<html>{SECRET}</html>")),
    ] {
        let reply = (status, body.clone());
        let server = FakeServer::start(move |_| Some(reply.clone())).await;
        let ours = Admin::open().await.lock_of(conf(server.addr));
        for result in [ours.acquire(&x(), LONG).await.map(drop), ours.inspect(&x()).await.map(drop)]
        {
            let Err(err) = result else { continue };
            assert!(!shown(&err).contains(SECRET), "{}", shown(&err));
        }
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn credentials_are_not_shown() {
    let addr = FakeServer::start_refusing().await;
    let credentials = Credentials::new("AKIDGLOCK", SECRET, Some(SECRET.into()), None, "tests");
    let ours = Admin::open().await.lock_of(conf(addr).credentials_provider(credentials));
    let err = ours.acquire(&x(), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected));
    let shown = format!("{ours:?} {ours:#?} {}", shown(&err));
    assert!(!shown.contains(SECRET), "{shown}");
}

/// What is on record of a hold shows its holder's label to people, and its owner token to programs alone.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_holder_s_owner_token_is_not_shown() {
    let admin = Admin::bare().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    ours.create_table().await.unwrap();
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    let held = ours.acquire(&x(), LONG).await.unwrap_err();
    let shown = format!("{} {ours:?} {lease:?} {:?}", shown(&held), ours.inspect(&x()).await);
    assert!(!shown.contains(lease.owner().reveal()), "{shown}");
    theirs.release(&lease).await.unwrap();
    admin.clean().await;
}
