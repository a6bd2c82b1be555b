//! A service that has no room, or fails: what is sent again, and what is not.

use std::time::Duration;

use glock_dynamodb::{Fault, Lock, LockError, LockId};
use glock_harness::assert_fault;
use glock_testing::process::eventually;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::support::{
    LONG, SOON,
    admin::{Admin, conf, lock},
    fake_server::{FakeServer, Request, error},
    x,
};

const GRANTED: &str = r#"{"Attributes": {"fence": {"N": "7"}, "version": {"N": "1"}}}"#;

/// The owner token in a request.
fn owner(request: &Request) -> String {
    let (_, rest) = request.body.split_once(r#"":owner":{"S":""#).expect("an owner");
    rest.split('"').next().unwrap().to_owned()
}

fn is_undo(request: &Request) -> bool {
    request.body.contains("REMOVE #owner")
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_throttled_acquire_is_sent_again_under_its_owner_token() {
    for code in [
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TransactionConflictException",
    ] {
        let mut throttled = 0;
        let server = FakeServer::start(move |_| {
            throttled += 1;
            Some(if throttled <= 3 { error(400, code, "slow down") } else { (200, GRANTED.into()) })
        })
        .await;
        let ours = Admin::open().await.lock_of(conf(server.addr));
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        let sent = server.received();
        assert_eq!(sent.len(), 4, "{code}");
        assert!(sent.iter().all(|request| owner(request) == lease.owner().reveal()), "{code}");
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_service_that_stays_without_room_is_unavailable_in_time() {
    const LIMIT: Duration = Duration::from_secs(2);
    let code = "ProvisionedThroughputExceededException";
    let server = FakeServer::start(move |_| Some(error(400, code, "slow down"))).await;
    let config = Admin::open().await.config().with_call_timeout(LIMIT);
    let ours = lock(conf(server.addr).build(), config);
    let since = Instant::now();
    assert_fault(ours.acquire(&x(), LONG).await, Fault::Unavailable, "slow down");
    assert!(since.elapsed() < SOON, "{:?}", since.elapsed());
    let sent = server.received().len();
    assert!((3..=20).contains(&sent), "{sent} requests in {LIMIT:?}");
}

/// AWS says of such a failure that the write may have been carried out. So it is undone, and another one
/// sent under another owner token.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_failure_inside_the_service_is_undone_before_the_next_attempt() {
    let mut failures = 0;
    let server = FakeServer::start(move |request| {
        if is_undo(request) {
            let text = "The conditional request failed";
            return Some(error(400, "ConditionalCheckFailedException", text));
        }
        failures += 1;
        let first = failures == 1;
        Some(if first { error(500, "InternalServerError", "x") } else { (200, GRANTED.into()) })
    })
    .await;
    let ours = Admin::open().await.lock_of(conf(server.addr));
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let sent = server.received();
    let failed = owner(&sent[0]);
    assert_ne!(failed, lease.owner().reveal());
    let granted = sent.iter().position(|it| owner(it) == lease.owner().reveal());
    let before = &sent[..granted.expect("the acquire that was granted")];
    let undoes =
        |all: &[Request]| all.iter().filter(|it| is_undo(it) && owner(it) == failed).count();
    assert!(undoes(before) > 0, "it was not undone first: {before:?}");
    // The first one may still arrive, so its undo goes on in the background.
    let done = undoes(&sent);
    eventually("the undo is repeated", SOON, async || undoes(&server.received()) > done).await;
}

/// A copy that the network or a proxy made of the request: the first one won, and the second finds its
/// own owner token.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_refusal_by_one_s_own_owner_token_is_a_grant() {
    let server = FakeServer::start(move |request| {
        let own = owner(request);
        let item = format!(
            r#"{{"owner":{{"S":"{own}"}},"fence":{{"N":"9"}},"version":{{"N":"1"}},"lease_ms":{{"N":"60000"}}}}"#
        );
        let kind = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
        Some((400, format!(r#"{{"__type":"{kind}","message":"failed","Item":{item}}}"#)))
    })
    .await;
    let ours = Admin::open().await.lock_of(conf(server.addr));
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    assert_eq!(lease.fence().get(), 9);
    assert_eq!(server.received().len(), 1);
}

/// A burst of acquires that are given up does not hit the service later.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn an_acquire_that_was_not_sent_when_its_caller_left_is_never_sent() {
    let server = FakeServer::start(|request| {
        (!request.body.contains("n/silent")).then(|| (200, GRANTED.into()))
    })
    .await;
    let config = Admin::open().await.config().with_call_timeout(Duration::from_secs(5));
    let ours = lock(conf(server.addr).build(), config);
    let mut silent = JoinSet::new();
    for n in 0..64 {
        let (ours, id) = (ours.clone(), LockId::new(format!("silent{n}")).unwrap());
        silent.spawn(async move { ours.acquire(&id, LONG).await });
    }
    eventually("they take all slots", SOON, async || server.received().len() >= 64).await;
    let left = LockId::new("left").unwrap();
    let waiting = timeout(Duration::from_millis(50), ours.acquire(&left, LONG)).await;
    assert!(waiting.is_err(), "there was a slot: {waiting:?}");
    // The undos of the others come after it in the queue for a slot.
    eventually("there are slots again", SOON, async || server.received().len() >= 100).await;
    let sent = server.received();
    assert!(!sent.iter().any(|request| request.body.contains("n/left")), "it was sent");
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_throttled_renewal_and_release_are_sent_again() {
    let mut requests = 0;
    let server = FakeServer::start(move |_| {
        requests += 1;
        let throttled = requests % 2 == 0;
        Some(if throttled { error(400, "ThrottlingException", "x") } else { (200, GRANTED.into()) })
    })
    .await;
    let ours = Admin::open().await.lock_of(conf(server.addr));
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let lease = ours.renew(&lease, LONG).await.unwrap();
    let released = ours.release(&lease).await;
    assert!(!matches!(released, Err(LockError::NotHeld { .. })), "{released:?}");
    released.unwrap();
    assert_eq!(server.received().len(), 5);
}
