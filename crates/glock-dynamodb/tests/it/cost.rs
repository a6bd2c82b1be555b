//! What a lock costs: requests, capacity units, and the permissions for them.

use std::{collections::BTreeSet, time::Duration};

use glock_dynamodb::{DynamoDbLock, Lock, LockError, LockExt, LockId, Retry};
use tokio::time::sleep;

use crate::support::{
    BRIEF, LONG,
    admin::{Admin, Requests},
    pair, x,
};

async fn open() -> (Admin, DynamoDbLock, Requests) {
    let (admin, ours, requests) = Admin::counted().await;
    pair(&ours).await;
    requests.take();
    requests.take_consumed();
    (admin, ours, requests)
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn each_operation_is_one_request_of_one_unit() {
    let (admin, ours, requests) = open().await;
    let update = ["UpdateItem"];
    for _ in 0..5 {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        assert_eq!(requests.take(), update, "acquire");
        assert!(matches!(ours.acquire(&x(), LONG).await, Err(LockError::Held { .. })));
        assert_eq!(requests.take(), update, "refused");
        let lease = ours.renew(&lease, LONG).await.unwrap();
        assert_eq!(requests.take(), update, "renew");
        ours.inspect(&x()).await.unwrap().unwrap();
        assert_eq!(requests.take(), ["GetItem"], "inspect");
        ours.release(&lease).await.unwrap();
        assert_eq!(requests.take(), update, "release");
        // The refused one is charged as well, and its reply does not say so.
        assert_eq!(requests.take_consumed(), [1.0; 4]);
    }
    // The takeover of a lease that ran out too, and with the longest id and label.
    let longest = LockId::new("x".repeat(255)).unwrap();
    let config = admin.config().with_holder("h".repeat(255));
    let ours = ours.with_config(config).unwrap();
    drop(ours.acquire(&longest, BRIEF).await.unwrap());
    sleep(BRIEF).await;
    drop(ours.acquire(&longest, LONG).await.unwrap());
    assert_eq!(requests.take(), ["UpdateItem"; 2]);
    assert_eq!(requests.take_consumed(), [1.0; 2]);
    admin.clean().await;
}

/// A waiter that has joined only reads, seldom, and less often the longer the lock was held.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_waiter_reads_less_and_less_often() {
    const WAIT: Duration = Duration::from_secs(4);
    let (admin, ours, requests) = open().await;
    let theirs = admin.lock();
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    // Many wait, and one reads.
    let waits = || ours.acquire_with_retry("x", LONG, Retry::within(WAIT));
    let waited = tokio::join!(waits(), waits(), waits(), waits());
    assert!(matches!(waited.0, Err(LockError::Timeout { .. })), "{waited:?}");
    let sent = requests.take();
    let reads = sent.iter().filter(|operation| *operation == "GetItem").count();
    // With pauses of an eighth of the time, of which the jitter takes two fifths at most: fewer than 100.
    assert!((1..=100).contains(&reads), "{reads} reads in {WAIT:?}");
    // A try, four places, and leaving them.
    assert!(sent.len() - reads <= 9, "{sent:?}");
    assert!(requests.take_consumed().iter().all(|units| *units <= 1.0));
    theirs.release(&held).await.unwrap();
    admin.clean().await;
}

/// The policies in the README, and no permission more or less.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn the_policies_of_the_readme_are_the_least() {
    let (admin, ours, requests) = Admin::counted().await;
    assert_eq!(allowed("creates the table"), operations(&requests));
    ours.create_table().await.unwrap();
    assert_eq!(operations(&requests), BTreeSet::from(["dynamodb:DescribeTable".to_owned()]));

    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let lease = ours.renew(&lease, LONG).await.unwrap();
    let other = ours.acquire(&LockId::new("y").unwrap(), LONG).await.unwrap();
    let mut seen = BTreeSet::new();
    let wait = |name| ours.acquire_with_retry(name, LONG, Retry::within(LONG));
    // Until a heartbeat has read both items: on a busy machine, others read one of them.
    let read_both = async {
        while !seen.contains("dynamodb:BatchGetItem") {
            sleep(BRIEF / 10).await;
            seen.extend(operations(&requests));
        }
    };
    tokio::select! {
        () = read_both => {}
        granted = async { tokio::join!(wait("x"), wait("y")) } => panic!("{granted:?}"),
    }
    assert_eq!(ours.drain(LONG).await, 0);
    ours.release(&other).await.unwrap();
    ours.holder_of("x").await.unwrap().unwrap();
    ours.release(&lease).await.unwrap();
    drop(ours.acquire(&x(), BRIEF).await.unwrap());
    ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await.map(drop).unwrap();
    seen.extend(operations(&requests));
    assert_eq!(allowed("takes locks"), seen);
    admin.clean().await;
}

fn operations(requests: &Requests) -> BTreeSet<String> {
    requests.take().into_iter().map(|operation| format!("dynamodb:{operation}")).collect()
}

/// The actions of the README's policy for an identity that does this.
fn allowed(does: &str) -> BTreeSet<String> {
    let readme = include_str!("../../README.md");
    let (_, after) = readme.split_once(does).expect("the README names what the identity does");
    let (_, policy) = after.split_once("```json").expect("a policy");
    let (policy, _) = policy.split_once("```").unwrap();
    let words = policy.split('"').filter(|word| word.starts_with("dynamodb:"));
    words.map(ToOwned::to_owned).collect()
}
