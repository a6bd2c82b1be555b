//! The conformance suite against the server that `GLOCK_DYNAMODB_URL` names.
#![allow(clippy::unwrap_used, reason = "a fixture that fails is a failed test")]

mod support;

use std::time::Duration;

use glock_dynamodb::{Lock, LockId};
use glock_testing::{Fixture, process::settles};

use crate::support::{SOON, fixture::DynamoDb};

glock_testing::conformance!(DynamoDb, "needs a server: run `cargo xtask integration dynamodb`");
glock_testing::admin_conformance!(
    DynamoDb,
    "needs a server: run `cargo xtask integration dynamodb`"
);

/// An item without an owner stays, as the README says; all else counts.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn what_is_left_is_counted() {
    let dynamodb = DynamoDb::open(glock_testing::fresh_namespace()).await;
    let (lock, x) = (dynamodb.client().await, LockId::new("x").unwrap());
    assert_eq!(dynamodb.residue().await, 0);
    let lease = lock.acquire(&x, Duration::from_mins(1)).await.unwrap();
    assert_eq!(dynamodb.residue().await, 1, "a hold");
    lock.release(&lease).await.unwrap();
    assert_eq!(dynamodb.residue().await, 0, "an item without an owner");
    drop(lock.acquire(&x, Duration::from_secs(1)).await.unwrap());
    assert_eq!(dynamodb.residue().await, 1, "a hold whose lease is not over");
    settles("what is left of a lease that ran out", SOON, 0, async || dynamodb.residue().await)
        .await;
}
