//! How many commands a server of its own is sent, and what its replies with errors mean.

use std::collections::BTreeMap;

use glock_harness::assert_fault;
use glock_mongodb::{
    Fault, Lock, LockError,
    mongodb::bson::{Document, doc},
};

use crate::support::{LONG, admin::Admin, cluster::Cluster, pair, x};

/// How often the server has run each of the commands that a lock may need.
async fn commands(cluster: &Cluster) -> BTreeMap<&'static str, i64> {
    let status = cluster.command(0, doc! { "serverStatus": 1 }).await.unwrap();
    let commands = status.get_document("metrics").and_then(|all| all.get_document("commands"));
    let commands = commands.unwrap();
    let count = |name: &str| {
        commands.get_document(name).and_then(|command| command.get_i64("total")).unwrap_or(0)
    };
    ["findAndModify", "update", "find", "insert", "delete", "aggregate", "getMore"]
        .map(|name| (name, count(name)))
        .into()
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn each_call_is_one_command() {
    let cluster = Cluster::start(1).await;
    let admin = Admin::at(&cluster.url()).await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    pair(&ours).await;
    pair(&theirs).await;
    let before = commands(&cluster).await;
    for _ in 0..10 {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        let refused = theirs.acquire(&x(), LONG).await;
        assert!(matches!(refused, Err(LockError::Held { holder: Some(_), .. })), "{refused:?}");
        let lease = ours.renew(&lease, LONG).await.unwrap();
        ours.release(&lease).await.unwrap();
    }
    let after = commands(&cluster).await;
    let sent: BTreeMap<_, _> =
        after.iter().map(|(name, count)| (*name, count - before[name])).collect();
    let expected = [("findAndModify", 20), ("update", 20)];
    for (name, count) in sent {
        let most = expected.iter().find(|(expected, _)| *expected == name);
        assert_eq!(count, most.map_or(0, |(_, count)| *count), "{name}");
    }
}

async fn fail(cluster: &Cluster, commands: &[&str], data: Document) {
    let mut all = doc! { "failCommands": commands };
    all.extend(data);
    let point = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": all };
    cluster.command(0, point).await.unwrap();
}

/// Errors as a server gives them that is too busy or loses its connections: a call repeats what it can, and
/// what stays in doubt is undone.
#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn an_error_that_passes_is_overcome() {
    let cluster = Cluster::start(1).await;
    let admin = Admin::at(&cluster.url()).await;
    let lock = admin.lock();
    let mut last = pair(&lock).await;
    for error in [
        doc! { "errorCode": 50 },
        doc! { "errorCode": 112 },
        doc! { "closeConnection": true },
        doc! { "writeConcernError": { "code": 64, "errmsg": "timed out" } },
        doc! { "writeConcernError": { "code": 11_602, "errmsg": "stepped down" } },
    ] {
        for command in ["findAndModify", "update"] {
            fail(&cluster, &[command], error.clone()).await;
            let fence = pair(&lock).await;
            assert!(fence > last, "{command} {error}");
            last = fence;
        }
    }
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn an_error_that_stays_is_rejected() {
    let cluster = Cluster::start(1).await;
    let admin = Admin::at(&cluster.url()).await;
    let lock = admin.lock();
    pair(&lock).await;
    for (code, says) in [(13, "the user lacks a permission"), (166, "view")] {
        fail(&cluster, &["findAndModify"], doc! { "errorCode": code }).await;
        let result = lock.acquire(&x(), LONG).await;
        assert_fault(result, Fault::Rejected, says);
    }
}
