//! What each reply means for the caller, from a server that replies anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use glock_redis::{Fault, Lock, LockConfig, LockError, RedisLock};
use glock_testing::process::eventually;
use tokio::time::timeout;

use crate::support::{
    LONG, SOON,
    fake_server::{FakeServer, Purpose, Sent, Then, error, granted, purpose},
    foreign_lease, id,
};

fn is_script(command: &Sent) -> bool {
    purpose(command).is_some()
}

fn lock(fake: &FakeServer) -> RedisLock {
    RedisLock::new(fake.client("u", "p"))
}

#[tokio::test]
async fn errors_of_the_server_become_faults() {
    for (line, fault) in [
        ("NOPERM no permission", Fault::Rejected),
        ("WRONGTYPE not a hash", Fault::Rejected),
        ("LOADING not yet", Fault::Unavailable),
        ("OOM out of memory", Fault::Unavailable),
        ("BUSY with a script", Fault::Unavailable),
        ("NOSCRIPT no such script", Fault::Unavailable),
    ] {
        let fake = FakeServer::start(move |sent| is_script(sent).then(|| error(line))).await;
        let err = lock(&fake).acquire(&id("x"), LONG).await.unwrap_err();
        assert_eq!(err.fault(), Some(fault), "{line}: {err:?}");
        assert!(fake.sent("EVALSHA").len() + fake.sent("EVAL").len() <= 2, "{line}");
    }
}

#[tokio::test]
async fn a_reply_that_no_script_gives_is_unknown_and_undone() {
    for reply in ["+OK\r\n", "*0\r\n", "*2\r\n:1\r\n$1\r\nx\r\n", ":7\r\n", "_\r\n"] {
        let fake =
            FakeServer::start(move |sent| is_script(sent).then(|| Then::Reply(reply.into()))).await;
        let err = lock(&fake).acquire(&id("x"), LONG).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Unknown), "{reply:?}: {err:?}");
        eventually("the undo", SOON, async || fake.count(Purpose::Release) > 0).await;
    }
}

#[tokio::test]
async fn garbage_ends_the_connection_and_not_the_program() {
    let fake =
        FakeServer::start(|sent| is_script(sent).then(|| Then::Reply("\0!?\r\n".into()))).await;
    let lock = lock(&fake);
    let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
    assert_eq!(lock.inspect(&id("x")).await.unwrap_err().fault(), Some(Fault::Unknown));
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left_for_its_successor() {
    let requests = Arc::new(AtomicUsize::new(0));
    let fake = FakeServer::start(move |sent| {
        let first = || requests.fetch_add(1, SeqCst) == 0;
        is_script(sent).then(|| if first() { error("READONLY replica") } else { granted(7) })
    })
    .await;
    let lease = lock(&fake).acquire(&id("x"), LONG).await.unwrap();
    assert_eq!(lease.fence().get(), 7);
    assert_eq!(fake.connections(), 2, "the name is looked up again");
    let sent = fake.sent("EVALSHA");
    assert_eq!(sent[0], sent[1], "the same token");
}

#[tokio::test]
async fn a_request_whose_reply_is_lost_is_sent_once_more_with_the_same_token() {
    let fake = FakeServer::start(|sent| is_script(sent).then_some(Then::Close)).await;
    let lock = lock(&fake);
    let err = lock.renew(&foreign_lease(), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
    let sent = fake.sent("EVALSHA");
    assert_eq!((sent.len(), &sent[0]), (2, &sent[1]));
}

#[tokio::test]
async fn a_refusal_after_a_lost_reply_is_not_taken_for_the_whole_truth() {
    let requests = Arc::new(AtomicUsize::new(0));
    let held = "*4\r\n:0\r\n$1\r\nw\r\n$1\r\n7\r\n:1000\r\n";
    let fake = FakeServer::start(move |sent| {
        is_script(sent).then(|| match requests.fetch_add(1, SeqCst) {
            0 => Then::Close,
            1 => Then::Reply(held.into()),
            _ => Then::Reply(":0\r\n".into()),
        })
    })
    .await;
    let err = lock(&fake).acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unknown), "the first may still arrive: {err:?}");
    eventually("the undo", SOON, async || fake.count(Purpose::Release) > 0).await;
}

#[tokio::test]
async fn a_release_whose_first_reply_is_lost_is_a_release() {
    let requests = Arc::new(AtomicUsize::new(0));
    let fake = FakeServer::start(move |sent| {
        let first = || requests.fetch_add(1, SeqCst).is_multiple_of(2);
        is_script(sent).then(|| if first() { Then::Close } else { Then::Reply(":0\r\n".into()) })
    })
    .await;
    let lock = lock(&fake);
    lock.release(&foreign_lease()).await.unwrap();
    let over = foreign_lease().to_secret_text().parse().unwrap();
    let again = lock.release(&over).await;
    assert!(matches!(again, Err(LockError::NotHeld { .. })), "a lease that is over: {again:?}");
}

#[tokio::test]
async fn the_driver_s_time_limit_does_not_undercut_ours() {
    let fake = FakeServer::start(|sent| {
        is_script(sent).then(|| {
            std::thread::sleep(Duration::from_millis(900));
            granted(7)
        })
    })
    .await;
    let _granted = lock(&fake).acquire(&id("x"), LONG).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_silent_at_the_handshake_is_unavailable() {
    let fake = FakeServer::start(|sent| (sent[0] == "HELLO").then_some(Then::Ignore)).await;
    let limit = Duration::from_millis(500);
    let config = LockConfig::default().with_call_timeout(limit);
    let lock = lock(&fake).with_config(config).unwrap();
    let acquired = timeout(SOON, lock.acquire(&id("x"), LONG)).await;
    let err = acquired.expect("longer than the call's time limit").unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "nothing was sent: {err:?}");
}

#[tokio::test]
async fn a_connection_that_is_silent_is_not_used_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    let fake = FakeServer::start(move |sent| match purpose(sent)? {
        _ if requests.fetch_add(1, SeqCst) == 0 => Some(Then::Ignore),
        Purpose::Acquire => Some(granted(7)),
        _ => Some(Then::Reply(":1\r\n".into())),
    })
    .await;
    let config = LockConfig::default().with_call_timeout(Duration::from_secs(1));
    let lock = lock(&fake).with_config(config).unwrap();
    assert_eq!(lock.acquire(&id("x"), LONG).await.unwrap_err().fault(), Some(Fault::Unknown));
    eventually("the undo", SOON, async || fake.count(Purpose::Release) > 0).await;
    let _granted = lock.acquire(&id("y"), LONG).await.unwrap();
    assert_eq!(fake.connections(), 2);
}

#[tokio::test]
async fn a_server_without_resp3_is_rejected() {
    let old = "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `u`, `p`, ";
    let fake = FakeServer::start(move |sent| (sent[0] == "HELLO").then(|| error(old))).await;
    let err = lock(&fake).acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
}
