//! A file that is deleted or replaced while it is in use.

use std::fs;

use glock_sqlite::{Lock, LockError, LockExt, LossReason, Retry};
use glock_testing::process::settles;
use tokio::time::{sleep, timeout};

use crate::support::{LONG, SHORT, SOON, admin::TestFile, pair, x};

/// One client has the file open since before it was deleted, the other one opens the new file.
#[tokio::test]
async fn clients_of_a_deleted_file_meet_in_the_new_one() {
    let file = TestFile::new();
    let ours = file.lock().await;
    let before = pair(&ours).await;
    let stale = ours.acquire(&x(), LONG).await.unwrap();
    let guard = ours.hold("guarded", SHORT * 3, Retry::NEVER).await.unwrap();
    fs::remove_file(&file.path).unwrap();

    let theirs = file.lock().await;
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    assert!(lease.fence().get() > before);
    let refused = ours.acquire(&x(), LONG).await;
    assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
    for refused in [ours.renew(&stale, LONG).await.map(drop), ours.release(&stale).await] {
        assert!(matches!(refused, Err(LockError::NotHeld { .. })), "{refused:?}");
    }
    assert_eq!(timeout(SOON, guard.lost()).await.unwrap(), LossReason::TakenAway);
    theirs.release(&lease).await.unwrap();
    assert!(pair(&ours).await > lease.fence().get());
}

#[tokio::test]
async fn a_file_that_takes_the_place_of_another_is_used_from_then_on() {
    let (file, other) = (TestFile::new(), TestFile::new());
    let (ours, theirs) = (file.lock().await, other.lock().await);
    pair(&ours).await;
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    // The last connection ends, so that all is in the file itself.
    drop(theirs);
    settles("descriptors", SOON, 0, async || other.descriptors()).await;
    fs::rename(&other.path, &file.path).unwrap();
    for end in ["-wal", "-shm"] {
        fs::remove_file(format!("{}{end}", file.path.display())).unwrap();
    }
    let refused = ours.acquire(&x(), LONG).await;
    let Err(LockError::Held { holder: Some(holder), .. }) = refused else {
        panic!("the other file's lock: {refused:?}")
    };
    assert_eq!(holder.fence, lease.fence());
    ours.release(&lease).await.unwrap();
    pair(&ours).await;
}

#[tokio::test]
async fn a_waiter_of_a_deleted_file_is_granted_the_lock_in_the_new_one() {
    let file = TestFile::new();
    let (ours, theirs) = (file.lock().await, file.lock().await);
    let _gone = theirs.acquire(&x(), LONG).await.unwrap();
    let waiter = tokio::spawn({
        let ours = ours.clone();
        async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
    });
    sleep(SHORT).await;
    assert!(!waiter.is_finished());
    fs::remove_file(&file.path).unwrap();
    let lease = timeout(SOON, waiter).await.unwrap().unwrap().unwrap();
    // And it is woken there.
    let waiter =
        tokio::spawn(
            async move { theirs.acquire_with_retry("x", LONG, Retry::within(LONG)).await },
        );
    sleep(SHORT).await;
    ours.release(&lease).await.unwrap();
    let _lease = timeout(SOON, waiter).await.unwrap().unwrap().unwrap();
}
