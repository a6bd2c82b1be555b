//! A replica set that has lost its majority grants nothing, and says so in time.

use std::time::Duration;

use glock_mongodb::{Fault, Lock, LockError};
use glock_testing::process::eventually;
use tokio::time::Instant;

use crate::support::{
    LONG, SOON,
    admin::{Admin, BRIEF},
    cluster::Cluster,
    pair, x,
};

fn store_failed(err: &LockError) -> bool {
    matches!(err.fault(), Some(Fault::Unavailable | Fault::Unknown))
}

/// What a busy machine may add to a call's time limit.
const LATE: Duration = Duration::from_secs(2);

/// The primary writes, and a majority does not follow: the write is not confirmed, and is undone when the
/// majority is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn a_write_without_a_majority_is_no_grant_and_is_undone() {
    let cluster = Cluster::start(3).await;
    let admin = Admin::at(&cluster.url()).await;
    let brief = admin.config().with_call_timeout(BRIEF);
    let lock = admin.lock().with_config(brief).unwrap();
    pair(&lock).await;
    let primary = cluster.primary().await;
    let secondaries: Vec<_> = (0..3).filter(|member| *member != primary).collect();
    for member in &secondaries {
        cluster.signal(*member, "STOP");
    }
    let since = Instant::now();
    let err = lock.acquire(&x(), LONG * 10).await.unwrap_err();
    assert!(store_failed(&err), "{err:?}");
    assert!(since.elapsed() < BRIEF + LATE, "{:?}", since.elapsed());
    for member in &secondaries {
        cluster.signal(*member, "CONT");
    }
    eventually("the lock is free again", SOON * 2, async || {
        matches!(lock.acquire(&x(), LONG).await, Ok(lease) if lock.release(&lease).await.is_ok())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn without_a_primary_every_call_fails_in_time_and_later_works_again() {
    let mut cluster = Cluster::start(3).await;
    let admin = Admin::at(&cluster.url()).await;
    let brief = admin.config().with_call_timeout(BRIEF);
    let lock = admin.lock().with_config(brief).unwrap();
    let lease = lock.acquire(&x(), LONG * 10).await.unwrap();
    for member in 0..2 {
        cluster.kill(member);
    }
    // The third one may have been the primary, and steps down when it misses the others.
    eventually("no primary", SOON, async || {
        let y = glock_mongodb::LockId::new("y").unwrap();
        let since = Instant::now();
        let results =
            [lock.acquire(&y, LONG).await.map(drop), lock.renew(&lease, LONG * 10).await.map(drop)];
        assert!(since.elapsed() < (BRIEF + LATE) * 2, "{:?}", since.elapsed());
        results.iter().all(|result| result.as_ref().is_err_and(store_failed))
    })
    .await;
    for member in 0..2 {
        cluster.restart(member);
    }
    eventually("the lease is renewed", SOON * 2, async || {
        lock.renew(&lease, LONG * 10).await.is_ok()
    })
    .await;
    lock.release(&lease).await.unwrap();
}
