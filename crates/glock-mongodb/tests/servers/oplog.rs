//! A stream that the oplog has gone on without is opened again from now on.

use glock_mongodb::{Lock, mongodb::bson::doc};

use crate::support::{LONG, admin::Admin, cluster::Cluster, sleeping_waiter, woken, x};

/// The code for a stream that cannot be resumed: the oplog no longer has that time.
const HISTORY_LOST: i32 = 286;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn a_stream_whose_time_the_oplog_no_longer_has_is_opened_from_now_on() {
    let cluster = Cluster::start(1).await;
    let admin = Admin::at(&cluster.url()).await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    // The request for the next events fails so, as it would after a long pause.
    let fail = doc! {
        "configureFailPoint": "failCommand",
        "mode": { "times": 1 },
        "data": { "failCommands": ["getMore"], "errorCode": HISTORY_LOST },
    };
    cluster.command(0, fail).await.unwrap();
    // Ends the request under way.
    let y = glock_mongodb::LockId::new("y").unwrap();
    let other = theirs.acquire(&y, LONG).await.unwrap();
    theirs.release(&other).await.unwrap();
    theirs.release(&held).await.unwrap();
    assert!(woken(waiter).await > held.fence().get());
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = sleeping_waiter(&ours).await;
    theirs.release(&held).await.unwrap();
    woken(waiter).await;
}
