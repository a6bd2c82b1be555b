//! A place that a late command makes is given up.

use std::time::Duration;

use glock_mongodb::{Lock, LockExt, Retry, mongodb::bson::doc};
use glock_testing::process::eventually;

use crate::support::{LONG, SOON, admin::Admin, cluster::Cluster, x};

const PATIENT: Retry = Retry::within(Duration::from_mins(1));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn a_place_that_a_command_makes_after_its_caller_left_is_given_up() {
    let cluster = Cluster::start(1).await;
    let admin = Admin::at(&cluster.url()).await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let held = ours.acquire(&x(), LONG).await.unwrap();
    let wait = || {
        let theirs = theirs.clone();
        tokio::spawn(async move { theirs.acquire_with_retry("x", LONG, PATIENT).await })
    };
    let waiting = async || {
        let document = admin.document().await.unwrap();
        document.get_array("waiters").map_or(0, Vec::len)
    };
    // It keeps its client alive, and with it all of that one's places.
    let first = wait();
    eventually("the first is in the queue", SOON, async || waiting().await == 1).await;
    let blocked = doc! {
        "configureFailPoint": "failCommand",
        "mode": { "times": 1 },
        "data": { "failCommands": ["findAndModify"], "blockConnection": true, "blockTimeMS": 1_000 },
    };
    let entered = cluster.command(0, blocked).await.unwrap().get_i32("count").unwrap();
    let second = wait();
    let until = doc! {
        "waitForFailPoint": "failCommand",
        "timesEntered": entered + 1,
        "maxTimeMS": 20_000,
    };
    cluster.command(0, until).await.unwrap();
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
    assert_eq!(theirs.drain(SOON).await, 0);
    assert_eq!(waiting().await, 1, "the place was kept");
    ours.release(&held).await.unwrap();
    let lease = tokio::time::timeout(SOON, first).await.expect("not served").unwrap().unwrap();
    theirs.release(&lease).await.unwrap();
}
