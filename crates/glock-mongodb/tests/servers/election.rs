//! What an election does to a lock that is in use.

use glock_harness::assert_fault;
use glock_mongodb::{Fault, Lock, LockExt, Retry};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::support::{LONG, SOON, admin::Admin, cluster::Cluster, pair, sleeping_waiter, woken, x};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn a_hold_and_its_waiters_survive_an_election() {
    let cluster = Cluster::start(3).await;
    let admin = Admin::at(&cluster.url()).await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let guard = theirs.hold("x", LONG, Retry::NEVER).await.unwrap();
    let fence = guard.fence();
    let waiter = sleeping_waiter(&ours).await;
    let before = cluster.primary().await;
    cluster.step_down().await;
    // A call waits for the next primary, if that comes within its time.
    let seen = ours.inspect(&x()).await.unwrap().unwrap();
    assert_eq!(seen.fence, fence);
    assert_ne!(cluster.primary().await, before);
    assert!(guard.is_valid());
    assert!(!waiter.is_finished(), "two hold");
    // The stream was resumed, or opened again: the release is reported.
    guard.release().await.unwrap();
    assert!(woken(waiter).await > fence.get());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn calls_during_an_election_wait_for_the_next_primary() {
    let cluster = Cluster::start(3).await;
    let admin = Admin::at(&cluster.url()).await;
    let lock = admin.lock();
    let mut fence = pair(&lock).await;
    for _ in 0..3 {
        cluster.until_all_serve().await;
        cluster.step_down().await;
        let since = Instant::now();
        let next = loop {
            match lock.acquire(&x(), LONG).await {
                Ok(lease) => break lease,
                Err(err) => assert!(err.is_retryable(), "{err:?}"),
            }
            assert!(since.elapsed() < SOON * 2, "no primary for too long");
        };
        assert!(next.fence().get() > fence);
        fence = next.fence().get();
        lock.release(&next).await.unwrap();
    }
}

/// A primary that stands still takes the commands that it is sent to its end, and the next one is
/// elected meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn a_guard_outlives_a_primary_that_stands_still() {
    let cluster = Cluster::start(3).await;
    let admin = Admin::at(&cluster.url()).await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    pair(&theirs).await;
    let ttl = LONG / 4;
    let guard = ours.hold("x", ttl, Retry::NEVER).await.unwrap();
    let frozen = cluster.primary().await;
    cluster.signal(frozen, "STOP");
    // Without a renewal it would be over by then.
    let waited = timeout(ttl, guard.lost()).await;
    assert!(waited.is_err(), "lost although a majority serves: {waited:?}");
    let Err(glock_mongodb::LockError::Held { .. }) = theirs.acquire(&x(), LONG).await else {
        panic!("two hold")
    };
    cluster.signal(frozen, "CONT");
    guard.release().await.unwrap();
    pair(&theirs).await;
}

/// A client that knows a secondary alone gets an error that says so, and changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn a_secondary_alone_grants_nothing() {
    let cluster = Cluster::start(3).await;
    let admin = Admin::at(&cluster.url()).await;
    pair(&admin.lock()).await;
    let url = cluster.url_by_primary().await;
    let hosts = url.trim_start_matches("mongodb://").split('/').next().unwrap().to_owned();
    let secondary = hosts.split(',').nth(1).unwrap().to_owned();
    let lock = admin.lock_with(|options| {
        options.hosts = vec![secondary.parse().unwrap()];
        options.direct_connection = Some(true);
    });
    let result = lock.acquire(&x(), LONG).await;
    assert_fault(result, Fault::Unavailable, "no primary was found");
}

/// The driver's requests for the same lock, from many clients, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the server's program: set GLOCK_MONGODB_SERVER to its path"]
async fn one_of_many_first_acquires_wins() {
    let cluster = Cluster::start(3).await;
    let admin = Admin::at(&cluster.url()).await;
    for round in 0..10 {
        let id = glock_mongodb::LockId::new(format!("x{round}")).unwrap();
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let (lock, id) = (admin.lock(), id.clone());
            tasks.spawn(async move { lock.acquire(&id, LONG).await });
        }
        let results = tasks.join_all().await;
        let granted = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(granted, 1, "{results:?}");
        let held =
            |result: &&Result<_, _>| matches!(result, Err(glock_mongodb::LockError::Held { .. }));
        assert_eq!(results.iter().filter(held).count(), 7, "{results:?}");
    }
}
