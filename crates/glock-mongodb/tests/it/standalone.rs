//! A server that is no member of a replica set, and has no change streams.

use glock_core::LockAdmin;
use glock_mongodb::{Lock, LockExt, Retry, Waiting, mongodb::bson::doc};
use tokio::time::timeout;

use crate::support::{LONG, SOON, admin::Admin, pair, x};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn waiting_is_polled_where_there_are_no_change_streams() {
    let admin = Admin::open().await;
    let hello = admin.command(doc! { "hello": 1 }).await;
    let is_member = hello.contains_key("setName");
    let (ours, theirs) = (admin.lock(), admin.lock());
    pair(&ours).await;
    let waiting = if is_member { Waiting::Pushed } else { Waiting::Polled };
    assert_eq!(ours.capabilities().waiting, waiting);
    assert_eq!(ours.clone().without_watch().capabilities().waiting, Waiting::Polled);
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = ours.clone().without_watch();
    let waiter = tokio::spawn(async move {
        let wait = Retry::within(LONG).with_pause_max(LONG);
        waiter.acquire_with_retry("x", LONG, wait).await.unwrap().fence()
    });
    tokio::time::sleep(crate::support::SHORT).await;
    theirs.release(&held).await.unwrap();
    let next = timeout(SOON, waiter).await.expect("not served").unwrap();
    assert!(next > held.fence());
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn an_operator_is_warned_of_a_server_that_is_no_member_of_a_replica_set() {
    let admin = Admin::open().await;
    let is_member = admin.command(doc! { "hello": 1 }).await.contains_key("setName");
    let lock = admin.lock();
    pair(&lock).await;
    let codes: Vec<_> =
        lock.preflight().await.unwrap().into_iter().map(|warning| warning.code).collect();
    let expected = if is_member { vec![] } else { vec!["mongodb.standalone"] };
    assert_eq!(codes, expected);
    admin.clean().await;
}
