//! What the document keeps of the queue, and whom its changes wake.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_mongodb::{
    Lease, Lock, LockError, LockExt, MongoLock, Retry,
    mongodb::bson::{Bson, Document, doc},
};
use glock_testing::process::eventually;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::support::{LONG, SHORT, SOON, admin::Admin, pair, x};

type Granted = JoinHandle<Result<Lease, LockError>>;

const PATIENT: Retry = Retry::within(Duration::from_mins(1));
const QUEUE: [&str; 4] = ["waiters", "seen", "reserved", "reserved_until"];

/// How many waiters the queue of `x` has.
async fn waiting(admin: &Admin) -> usize {
    let document = admin.document().await.unwrap_or_default();
    document.get_array("waiters").map_or(0, Vec::len)
}

/// A waiter in the queue of `x`, behind `before` others.
async fn queued(admin: &Admin, lock: &MongoLock, before: usize) -> Granted {
    let lock = lock.clone();
    let granted = tokio::spawn(async move { lock.acquire_with_retry("x", LONG, PATIENT).await });
    eventually("it is in the queue", SOON, async || waiting(admin).await == before + 1).await;
    granted
}

async fn served(granted: Granted) -> Lease {
    timeout(SOON, granted).await.expect("the waiter was not served").unwrap().unwrap()
}

/// Sets fields of `x` to the values of expressions.
async fn set(admin: &Admin, fields: Document) {
    let key = doc! { "_id": admin.key("x") };
    let found = admin.locks.update_one(key, vec![doc! { "$set": fields }]).await.unwrap();
    assert_eq!(found.matched_count, 1, "there is no document");
}

/// The fields that belong to the queue.
fn queue_fields(document: &Document) -> BTreeSet<&str> {
    document.keys().map(String::as_str).filter(|name| QUEUE.contains(name)).collect()
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_document_has_the_queue_of_the_readme_while_callers_wait_and_no_longer() {
    let admin = Admin::open().await;
    let (ours, first, second) = (admin.lock(), admin.lock(), admin.lock());
    let held = ours.acquire(&x(), LONG).await.unwrap();
    assert!(queue_fields(&admin.document().await.unwrap()).is_empty());
    let first = queued(&admin, &first, 0).await;
    let second = queued(&admin, &second, 1).await;
    let document = admin.document().await.unwrap();
    assert_eq!(queue_fields(&document), BTreeSet::from(["waiters", "seen"]));
    let names: Vec<_> = document.get_array("waiters").unwrap().iter().map(client_of).collect();
    let seen = document.get_document("seen").unwrap();
    assert_eq!(seen.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert!(seen.values().all(|at| matches!(at, Bson::DateTime(_))));

    ours.release(&held).await.unwrap();
    let lease = served(first).await;
    let document = admin.document().await.unwrap();
    assert_eq!(queue_fields(&document), BTreeSet::from(["waiters", "seen"]), "{document}");
    // Nothing of a client that waits no more.
    let seen = document.get_document("seen").unwrap();
    assert_eq!(seen.keys().collect::<Vec<_>>(), [&names[1]]);
    ours.release(&lease).await.unwrap();
    let lease = served(second).await;
    assert!(queue_fields(&admin.document().await.unwrap()).is_empty());
    ours.release(&lease).await.unwrap();
    admin.clean().await;
}

fn client_of(waiter: &Bson) -> String {
    waiter.as_str().unwrap().split_once(':').unwrap().0.to_owned()
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_release_reserves_the_lock_for_the_first_waiter() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let held = ours.acquire(&x(), LONG).await.unwrap();
    // Not polled once it is in the queue: it does not claim.
    let mut asleep = Box::pin(theirs.acquire_with_retry("x", LONG, PATIENT));
    while timeout(SHORT, &mut asleep).await.is_err() && waiting(&admin).await == 0 {}
    let name = admin.document().await.unwrap().get_array("waiters").unwrap()[0].clone();
    ours.release(&held).await.unwrap();
    let document = admin.document().await.unwrap();
    assert_eq!(queue_fields(&document), BTreeSet::from(["reserved", "reserved_until"]));
    assert_eq!(document.get("reserved"), Some(&name));
    assert_eq!(document.get("owner"), Some(&Bson::Null));
    drop(asleep);
    // Its turn passes on with it.
    assert_eq!(theirs.drain(SOON).await, 0);
    pair(&ours).await;
    admin.clean().await;
}

/// Each hand-over is to another client, which its own change stream wakes.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_hand_over_in_a_long_queue_wakes_the_next_client() {
    let admin = Admin::open().await;
    let (ours, clients) = (admin.lock(), [admin.lock(), admin.lock(), admin.lock()]);
    let held = ours.acquire(&x(), LONG).await.unwrap();
    let (order, mut waiters) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
    for n in 0..60 {
        let (client, order) = (clients[n % clients.len()].clone(), Arc::clone(&order));
        waiters.spawn(async move {
            let lease = client.acquire_with_retry("x", LONG, PATIENT).await.unwrap();
            order.lock().unwrap().push(n);
            client.release(&lease).await.unwrap();
        });
        eventually("it is in the queue", SOON, async || waiting(&admin).await == n + 1).await;
    }
    ours.release(&held).await.unwrap();
    // Heartbeats alone, one a second, would take half a minute.
    timeout(SOON, waiters.join_all()).await.expect("not all are served");
    assert!(order.lock().unwrap().is_sorted());
    admin.clean().await;
}

/// Where names are short, a reservation changes most of the document: the server then reports that it was
/// replaced.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_turn_that_is_reported_as_a_replacement_wakes_its_client() {
    let admin = Admin::open().await;
    let config = admin.config().with_namespace("n").with_ttl_field("t").with_holder("h");
    let [ours, theirs] =
        [admin.lock(), admin.lock()].map(|lock| lock.with_config(config.clone()).unwrap());
    let turns = async {
        for _ in 0..60 {
            let held = ours.acquire(&x(), LONG).await.unwrap();
            let lock = theirs.clone();
            let waiter =
                tokio::spawn(async move { lock.acquire_with_retry("x", LONG, PATIENT).await });
            let queued = doc! { "_id": "n/x", "waiters": { "$exists": true } };
            eventually("it is in the queue", SOON, async || {
                admin.locks.find_one(queued.clone()).await.unwrap().is_some()
            })
            .await;
            ours.release(&held).await.unwrap();
            theirs.release(&served(waiter).await).await.unwrap();
        }
    };
    // Heartbeats alone, one a second, would take half a minute.
    timeout(SOON, turns).await.expect("not all are served");
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_reservation_and_places_of_the_future_do_not_hold_after_the_clock_went_back() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    let in_an_hour = doc! { "$add": ["$$NOW", 3_600_000] };
    let future = doc! {
        "reserved": "gone:1",
        "reserved_until": &in_an_hour,
        "waiters": ["gone:2"],
        "seen": { "gone": in_an_hour },
    };
    set(&admin, future).await;
    pair(&lock).await;
    assert!(queue_fields(&admin.document().await.unwrap()).is_empty());
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn a_caller_without_a_place_sleeps_while_the_lock_is_reserved() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    let reserve = async || {
        let until = doc! { "$add": ["$$NOW", 1_500] };
        set(&admin, doc! { "reserved": "gone:1", "reserved_until": until }).await;
    };
    // A wait that begins before the stream is open ends early.
    eventually("a wait ends with the reservation", SOON, async || {
        reserve().await;
        let refused = lock.acquire(&x(), LONG).await;
        assert!(matches!(refused, Err(LockError::Held { holder: None, .. })), "{refused:?}");
        lock.wait(&x(), LONG).await.unwrap();
        match lock.acquire(&x(), LONG).await {
            Ok(lease) => lock.release(&lease).await.is_ok(),
            Err(_) => false,
        }
    })
    .await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn an_operator_who_frees_a_document_by_hand_wakes_the_first_waiter() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let _held = ours.acquire(&x(), LONG).await.unwrap();
    let waiter = queued(&admin, &theirs, 0).await;
    admin.change(doc! { "$set": { "owner": null } }).await;
    theirs.release(&served(waiter).await).await.unwrap();
    admin.clean().await;
}

/// A client that waits long is noted as alive again and again, and keeps its place.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
async fn heartbeats_keep_a_place() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let held = ours.acquire(&x(), LONG).await.unwrap();
    let waiter = queued(&admin, &theirs, 0).await;
    let first = admin.document().await.unwrap().get_array("waiters").unwrap().clone();
    let since = admin.document().await.unwrap().get_document("seen").unwrap().clone();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let document = admin.document().await.unwrap();
    assert_eq!(document.get_array("waiters").unwrap(), &first);
    assert_ne!(document.get_document("seen").unwrap(), &since);
    let refused = ours.acquire(&x(), LONG).await;
    assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
    ours.release(&held).await.unwrap();
    let tried = ours.acquire(&x(), LONG).await;
    assert!(matches!(tried, Err(LockError::Held { .. })), "a try overtook the waiter: {tried:?}");
    theirs.release(&served(waiter).await).await.unwrap();
    admin.clean().await;
}
