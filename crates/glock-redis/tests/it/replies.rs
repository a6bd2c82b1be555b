//! What each reply means for the caller, from a server that replies anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use glock_redis::{Fault, Lock, LockConfig, LockError, LockExt, RedisLock, Retry};
use glock_testing::process::eventually;
use tokio::time::timeout;

use crate::support::{
    LONG, SOON,
    fake_server::{
        FakeServer, Purpose, Sent, Then, error, granted, purpose, refused, subscribed, waiting,
    },
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
        ("WRONGTYPE not a string", Fault::Rejected),
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
    for reply in ["+OK\r\n", "*0\r\n", "$1\r\nx\r\n", ":7\r\n", "_\r\n"] {
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
async fn a_request_whose_reply_is_lost_is_sent_again_with_the_same_token_and_not_for_ever() {
    let fake = FakeServer::start(|sent| is_script(sent).then_some(Then::Close)).await;
    let lock = lock(&fake);
    let err = lock.renew(&foreign_lease(), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
    let sent = fake.sent("EVALSHA");
    assert!((2..=3).contains(&sent.len()), "{sent:?}");
    assert!(sent.iter().all(|again| *again == sent[0]), "{sent:?}");
}

#[tokio::test]
async fn a_refusal_after_a_lost_reply_is_not_taken_for_the_whole_truth() {
    let requests = Arc::new(AtomicUsize::new(0));
    let fake = FakeServer::start(move |sent| {
        is_script(sent).then(|| match requests.fetch_add(1, SeqCst) {
            0 => Then::Close,
            1 => refused(1_000),
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

/// A lock whose calls have time for several attempts on a busy machine.
fn patient_lock(fake: &FakeServer) -> RedisLock {
    let config = LockConfig::default().with_call_timeout(Duration::from_secs(10));
    lock(fake).with_config(config).unwrap()
}

/// A server that replies to no script on its first connection.
async fn silent_at_first() -> FakeServer {
    FakeServer::start_numbered(|number, sent| match purpose(sent)? {
        _ if number == 0 => Some(Then::Ignore),
        Purpose::Acquire => Some(granted(7)),
        _ => Some(Then::Reply(":1\r\n".into())),
    })
    .await
}

#[tokio::test]
async fn an_acquire_on_a_silent_connection_is_undone_and_made_again_on_another_one() {
    let fake = silent_at_first().await;
    let lock = patient_lock(&fake);
    let _granted = lock.acquire(&id("x"), LONG).await.unwrap();
    assert!(fake.connections() > 1);
    assert!(fake.count(Purpose::Release) > 0, "undone");
    let sent = fake.sent("EVALSHA");
    let acquires = sent.iter().filter(|sent| purpose(sent) == Some(Purpose::Acquire));
    let owners: Vec<&String> = acquires.map(|sent| &sent[6]).collect();
    assert!(owners.len() > 1 && owners[0] != owners[1], "another token: {owners:?}");
}

#[tokio::test]
async fn a_renewal_and_a_release_lose_one_attempt_to_a_silent_connection() {
    let fake = silent_at_first().await;
    let lock = patient_lock(&fake);
    let lease = lock.renew(&foreign_lease(), LONG).await.unwrap();
    assert!(fake.connections() > 1 && fake.count(Purpose::Renew) > 1);
    let before = fake.connections();
    lock.release(&lease).await.unwrap();
    assert_eq!(fake.connections(), before, "the silent one is not used again");
}

#[tokio::test]
async fn a_server_without_resp3_is_rejected() {
    let old = "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `u`, `p`, ";
    let fake = FakeServer::start(move |sent| (sent[0] == "HELLO").then(|| error(old))).await;
    let err = lock(&fake).acquire(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
}

/// Errors of a server that cannot do it now: what a real one replies to a script, or to the handshake.
const PASSING: [&str; 9] = [
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "READONLY You can't write against a read only replica. script: 1, on @user_script:17.",
    "CLUSTERDOWN The cluster is down",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "OOM command not allowed when used memory > 'maxmemory'. script: 1, on @user_script:17.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write. script: 1, on @user_script:17.",
];

#[tokio::test]
async fn no_wait_ends_for_what_passes_by_itself() {
    for line in PASSING {
        let requests = Arc::new(AtomicUsize::new(0));
        let fake = FakeServer::start(move |sent| match purpose(sent)? {
            _ if requests.fetch_add(1, SeqCst) < 6 => Some(error(line)),
            Purpose::Acquire => Some(granted(7)),
            _ => Some(Then::Reply(":1\r\n".into())),
        })
        .await;
        let granted = lock(&fake).acquire_with_retry("x", LONG, Retry::within(SOON)).await;
        let _granted = granted.unwrap_or_else(|err| panic!("{line}: {err:?}"));
    }
}

#[tokio::test]
async fn no_wait_ends_for_a_handshake_that_fails_for_now() {
    for line in [PASSING[0], PASSING[2], "ERR max number of clients reached"] {
        let connections = Arc::new(AtomicUsize::new(0));
        let fake = FakeServer::start(move |sent| match purpose(sent) {
            Some(Purpose::Acquire) => Some(granted(7)),
            Some(_) => Some(Then::Reply(":1\r\n".into())),
            None if sent[0] == "HELLO" && connections.fetch_add(1, SeqCst) < 6 => Some(error(line)),
            None => None,
        })
        .await;
        let granted = lock(&fake).acquire_with_retry("x", LONG, Retry::within(SOON)).await;
        let _granted = granted.unwrap_or_else(|err| panic!("{line}: {err:?}"));
    }
}

/// From then on the first connection is silent, as when a firewall has forgotten it.
#[tokio::test]
async fn a_waiter_is_not_lost_with_the_connection_that_it_sleeps_on() {
    let silent = Arc::new(AtomicBool::new(false));
    let fake = FakeServer::start_numbered({
        let silent = Arc::clone(&silent);
        move |number, sent| match purpose(sent) {
            _ if number == 0 && silent.load(SeqCst) => Some(Then::Ignore),
            Some(Purpose::Acquire) if number > 0 => Some(granted(8)),
            Some(Purpose::Acquire) => Some(refused(60_000)),
            // On another connection the server knows of no waiter.
            Some(Purpose::Heartbeat) if number > 0 => {
                Some(Then::Reply(format!("*1\r\n*4\r\n:0\r\n:0\r\n:0\r\n:{}\r\n", sent[10])))
            }
            Some(Purpose::Heartbeat) => Some(waiting()),
            None if sent[0] == "SUBSCRIBE" => Some(subscribed(&sent[1])),
            _ => None,
        }
    })
    .await;
    let lock = lock(&fake);
    let waiter =
        tokio::spawn(async move { lock.acquire_with_retry("x", LONG, Retry::FOREVER).await });
    eventually("asleep", SOON, async || fake.count(Purpose::Heartbeat) > 0).await;
    silent.store(true, SeqCst);
    let lease = timeout(SOON, waiter).await.expect("not woken").unwrap().unwrap();
    assert_eq!(lease.fence().get(), 8);
}
