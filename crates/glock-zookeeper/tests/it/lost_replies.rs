//! Requests whose reply was lost, against a server of a few lines: it needs no real one.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_testing::process::eventually;
use glock_zookeeper::{
    Fault, Lock, LockConfig, LockError, LockExt, LockId, Retry, ZooKeeperLock,
    zookeeper_client::Client,
};
use tokio::time::Instant;

use crate::support::fake_server::{self, NO_NODE, NODE_EXISTS, Reply, THROTTLED};

const DELETE: i32 = 2;
const CHECK: i32 = 13;
const TTL: Duration = Duration::from_mins(1);
const SOON: Duration = Duration::from_secs(5);

/// The first operation of a transaction, and the owner token in it.
fn read(transaction: &[u8]) -> (i32, String) {
    let text = String::from_utf8_lossy(transaction);
    let owner = text.split_once("@own-0-").map_or("", |(_, owner)| owner);
    (i32::from_be_bytes(transaction[..4].try_into().unwrap()), owner.chars().take(32).collect())
}

/// The waiter whose node a transaction creates.
fn waiter(transaction: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(transaction);
    let (_, waiter) = text.split_once("@queue/wait-")?;
    Some(waiter.chars().take(32).collect())
}

/// A request may arrive after its connection is lost and after its repeat was answered: it must not
/// be mistaken for the repeat, and its hold is deleted.
#[tokio::test]
async fn a_lost_acquire_is_looked_for_and_sent_again_under_another_owner_token() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let address = fake_server::start(move |transaction| {
        let mut seen = note.lock().unwrap();
        seen.push(read(transaction));
        match (seen.len(), seen[seen.len() - 1].0) {
            (1, _) => Reply::Lost,
            (_, CHECK | DELETE) => Reply::Refused(NO_NODE),
            _ => Reply::Refused(NODE_EXISTS),
        }
    });
    let lock = ZooKeeperLock::new(Client::connector(), address);
    let cut_at = Instant::now();
    let taken = lock.acquire(&LockId::new("x").unwrap(), TTL).await;
    assert!(matches!(taken, Err(LockError::Held { .. })), "{taken:?}");
    let requests = || seen.lock().unwrap().clone();
    let first = requests()[0].clone();
    assert_eq!(requests()[1], (CHECK, first.1.clone()), "it may have been carried out");
    let creates: Vec<_> = requests().into_iter().filter(|(code, _)| *code == first.0).collect();
    assert!(creates.len() == 2 && creates[0].1 != creates[1].1, "{creates:?}");
    let (undo, in_flight_max) = ((DELETE, first.1), LockConfig::default().call_timeout);
    let undos = || requests().into_iter().filter(|seen| *seen == undo).count();
    let mut seen = undos();
    eventually("it is looked for as long as a call may take", in_flight_max * 4, async || {
        let before = std::mem::replace(&mut seen, undos());
        seen > before && cut_at.elapsed() >= in_flight_max
    })
    .await;
}

/// No other client would ever delete it while its client lives.
#[tokio::test]
async fn a_hold_that_may_have_been_granted_is_deleted_though_the_look_for_it_was_refused() {
    for first in [Reply::Lost, Reply::Created] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&seen);
        let address = fake_server::start(move |transaction| {
            let mut seen = note.lock().unwrap();
            seen.push(read(transaction));
            match (seen.len(), seen[seen.len() - 1].0) {
                (1, _) => first,
                (_, CHECK) => Reply::Refused(THROTTLED),
                _ => Reply::Refused(NO_NODE),
            }
        });
        let lock = ZooKeeperLock::new(Client::connector(), address);
        let taken = lock.acquire(&LockId::new("x").unwrap(), TTL).await;
        let err = taken.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Unknown), "{err:?}");
        let undo = (DELETE, seen.lock().unwrap()[0].1.clone());
        eventually("it is deleted", SOON, async || seen.lock().unwrap().contains(&undo)).await;
    }
}

/// An operator may delete a hold before its token is read: another try helps.
#[tokio::test]
async fn a_hold_that_is_gone_before_its_token_is_known_is_worth_another_try() {
    let address = fake_server::start(|transaction| match read(transaction).0 {
        CHECK | DELETE => Reply::Refused(NO_NODE),
        _ => Reply::Created,
    });
    let lock = ZooKeeperLock::new(Client::connector(), address);
    let taken = lock.acquire(&LockId::new("x").unwrap(), TTL).await;
    let err = taken.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
}

/// A waiter node whose reply was lost may be created after all, and before the one that replaces it:
/// no waiter may stay behind it for ever.
#[tokio::test]
async fn a_lost_waiter_node_is_requested_again_under_another_name() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let address = fake_server::start(move |transaction| {
        let Some(waiter) = waiter(transaction) else { return Reply::Refused(NODE_EXISTS) };
        let mut seen = note.lock().unwrap();
        seen.push(waiter);
        // This server has no queue, whatever else is requested.
        if seen.len() == 1 { Reply::Lost } else { Reply::Refused(NO_NODE) }
    });
    let lock = ZooKeeperLock::new(Client::connector(), address);
    let waits = tokio::spawn(async move { lock.hold("x", TTL, Retry::within(TTL)).await });
    eventually("it joins again", SOON * 4, async || seen.lock().unwrap().len() > 1).await;
    waits.abort();
    let seen = seen.lock().unwrap();
    assert!(!seen[1..].contains(&seen[0]), "{seen:?}");
}
