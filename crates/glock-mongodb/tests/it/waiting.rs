//! Waiters, and the change stream that wakes them.

use std::time::Duration;

use glock_mongodb::{
    Lock, LockExt, Retry, Waiting,
    mongodb::bson::{Document, doc},
};
use glock_testing::process::eventually;
use tokio::{task::JoinSet, time::sleep};

use crate::support::{
    LONG, SHORT, SOON, admin::Admin, sleeping_waiter, watches, watches_releases, woken, x,
};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_client_has_one_stream_whatever_the_number_of_its_waiters() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let mut held = Vec::new();
    for n in 0..5 {
        let id = glock_mongodb::LockId::new(format!("x{n}")).unwrap();
        held.push(theirs.acquire(&id, LONG).await.unwrap());
    }
    let mut waiters = JoinSet::new();
    for n in 0..50 {
        let ours = ours.clone();
        waiters.spawn(async move {
            let name = format!("x{}", n % 5);
            let lease = ours.acquire_with_retry(name, LONG, Retry::FOREVER).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    eventually("the stream is open", SOON, async || watches(&ours)).await;
    sleep(SHORT).await;
    // One that is read at that moment is counted twice, or not at all.
    eventually("there is one stream", SOON, async || admin.streams().await == 1).await;
    for lease in held {
        theirs.release(&lease).await.unwrap();
    }
    tokio::time::timeout(SOON, waiters.join_all()).await.expect("not every waiter was served");
    assert!(!watches(&theirs), "a client without waiters watches");
    admin.clean().await;
}

/// The server ends the stream; a release that comes meanwhile is not missed.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_stream_that_the_server_ends_is_opened_again() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    // What a release in that time would do is done past the lock.
    let release = doc! { "$set": { "owner": null } };
    let killed = kill_streams(&admin).await;
    assert_eq!(killed, 1);
    admin.change(release).await;
    assert!(woken(waiter).await > held.fence().get());
    admin.clean().await;
}

async fn kill_streams(admin: &Admin) -> usize {
    let stages = [
        doc! { "$currentOp": { "idleCursors": true } },
        doc! { "$match": {
            "ns": format!("glock_test.{}", admin.name),
            "cursor.originatingCommand.pipeline.0.$changeStream": { "$exists": true },
        } },
    ];
    let mut found = admin.client.database("admin").aggregate(stages).await.unwrap();
    let mut cursors = Vec::new();
    while found.advance().await.unwrap() {
        let op: Document = found.deserialize_current().unwrap();
        cursors.push(op.get_document("cursor").unwrap().get_i64("cursorId").unwrap());
    }
    let kill = doc! { "killCursors": &admin.name, "cursors": &cursors };
    admin.client.database("glock_test").run_command(kill).await.unwrap();
    cursors.len()
}

/// Dropping the collection ends the stream for good: the driver cannot resume it.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_waiter_is_served_although_the_collection_was_dropped() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let _held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    admin.locks.drop().await.unwrap();
    woken(waiter).await;
    // And the next one is woken by the next stream.
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    theirs.release(&held).await.unwrap();
    woken(waiter).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_document_that_an_operator_deletes_wakes_its_waiters() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let _held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    admin.locks.delete_one(doc! { "_id": admin.key("x") }).await.unwrap();
    woken(waiter).await;
    admin.clean().await;
}

/// Other documents of the collection, and other namespaces, wake no waiter.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_waiter_sleeps_until_its_own_lock_is_released() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    assert_eq!(ours.capabilities().waiting, Waiting::Pushed);
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    // A wait that begins before the stream is open ends early.
    eventually("the stream is open", SOON, async || {
        ours.wait(&x(), SHORT).await.unwrap();
        watches_releases(&ours)
    })
    .await;
    let waiting = tokio::spawn({
        let ours = ours.clone();
        async move { ours.wait(&x(), LONG).await }
    });
    sleep(SHORT).await;
    let other = theirs.clone().with_config(admin.config().with_namespace("other")).unwrap();
    for lock in [&other, &theirs] {
        let id = glock_mongodb::LockId::new("y").unwrap();
        let lease = lock.acquire(&id, LONG).await.unwrap();
        lock.release(&lease).await.unwrap();
    }
    sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished(), "woken by another lock's release");
    theirs.release(&held).await.unwrap();
    tokio::time::timeout(SOON, waiting).await.expect("not woken").unwrap().unwrap();
    admin.clean().await;
}
