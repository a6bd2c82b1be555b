//! No error shows the password or the owner token, even if the server repeats what it was sent.

use std::{error::Error, fmt::Write};

use glock_redis::{Lock, LockError, RedisLock};
use glock_testing::CANARY;

use crate::support::{
    LONG,
    fake_server::{FakeServer, Sent, error},
    id,
};

/// What a server says about a command that was renamed away.
fn unknown(sent: &Sent) -> String {
    let args: Vec<String> = sent[1..].iter().map(|arg| format!("'{arg}'")).collect();
    format!("ERR unknown command '{}', with args beginning with: {}", sent[0], args.join(" "))
}

fn shown(err: &LockError) -> String {
    let mut shown = format!("{err} {err:?} {err:#?}");
    let mut cause = err.source();
    while let Some(err) = cause {
        write!(shown, " {err} {err:?} {err:#?}").unwrap();
        cause = err.source();
    }
    shown
}

#[tokio::test]
async fn a_handshake_that_is_repeated_does_not_show_the_password() {
    let fake = FakeServer::start(|sent| (sent[0] == "HELLO").then(|| error(&unknown(sent)))).await;
    let lock = RedisLock::new(fake.client("u", CANARY));
    let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
    assert!(fake.sent("HELLO")[0].contains(&CANARY.to_owned()), "it was sent");
    let shown = format!("{} {lock:?} {lock:#?}", shown(&err));
    assert!(!shown.contains(CANARY), "{shown}");
}

#[tokio::test]
async fn a_request_that_is_repeated_does_not_show_the_owner_token() {
    let fake =
        FakeServer::start(|sent| sent[0].starts_with("EVAL").then(|| error(&unknown(sent)))).await;
    let lock = RedisLock::new(fake.client("u", CANARY));
    let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
    let owner = &fake.sent("EVALSHA")[0][6];
    assert_eq!(owner.len(), 32, "{owner}");
    let shown = shown(&err);
    assert!(!shown.contains(owner), "{shown}");
    assert!(shown.contains("unknown command 'EVALSHA'"), "{shown}");
}
