//! Neither descriptors nor tasks nor watches are left behind.

use glock_sqlite::{Lock, LockExt, Retry};
use glock_testing::process::{alive_tasks, settles};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::{LONG, SHORT, SOON, admin::TestFile, pair, x};

#[tokio::test]
async fn nothing_is_left_of_a_lock_that_is_dropped() {
    let file = TestFile::new();
    let (ours, theirs) = (file.lock().await, file.lock().await);
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    let waiting = ours.acquire_with_retry("x", LONG, Retry::within(SHORT));
    waiting.await.unwrap_err();
    let clone = ours.clone();
    drop(ours);
    let refused = clone.acquire(&x(), LONG).await;
    assert!(refused.is_err(), "a clone still works");
    theirs.release(&held).await.unwrap();
    drop((clone, theirs));
    settles("descriptors", SOON, 0, async || file.descriptors()).await;
    settles("tasks", SOON, 0, async || alive_tasks()).await;
}

#[tokio::test]
async fn the_file_is_watched_while_there_are_waiters() {
    let file = TestFile::new();
    let (ours, theirs) = (file.lock().await, file.lock().await);
    pair(&ours).await;
    let held = theirs.acquire(&x(), LONG).await.unwrap();
    ours.inspect(&x()).await.unwrap();
    let calm = file.descriptors();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
    });
    let watched = async {
        while file.descriptors() <= calm {
            sleep(SHORT / 30).await;
        }
    };
    timeout(SOON, watched).await.expect("it is never watched");
    waiter.abort();
    settles("descriptors", SOON, calm, async || file.descriptors()).await;
    theirs.release(&held).await.unwrap();
}

#[tokio::test]
async fn a_thousand_dropped_acquires_leave_a_lock_that_works() {
    let file = TestFile::new();
    let lock = file.lock().await;
    pair(&lock).await;
    let (calm, mut releases) = (file.descriptors(), JoinSet::new());
    for n in 0..1_000_u64 {
        let patience = std::time::Duration::from_micros(n * 7 % 700);
        // Refused while the one before is being undone.
        if let Ok(Ok(lease)) = timeout(patience, lock.acquire(&x(), LONG)).await {
            let lock = lock.clone();
            releases.spawn(async move { lock.release(&lease).await.unwrap() });
        }
    }
    assert!(releases.len() < 1_000, "none was dropped");
    releases.join_all().await;
    assert_eq!(lock.drain(SOON).await, 0);
    settles("descriptors", SOON, calm + 3, async || file.descriptors()).await;
    assert!(lock.inspect(&x()).await.unwrap().is_none(), "a grant came late");
    pair(&lock).await;
}
