//! A start of the system ends all leases; another machine that uses the file is noticed.

use glock_sqlite::{Lock, LockError};

use crate::support::{LONG, admin::TestFile, assert_rejected, pair, x};

/// As if all rows were of an earlier start of the system.
async fn restart(file: &TestFile) {
    file.run("UPDATE glock SET boot = 'an-earlier-start'").await;
}

#[tokio::test]
async fn after_a_start_of_the_system_every_lock_is_free() {
    let file = TestFile::new();
    let lock = file.lock().await;
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    drop(lock);
    restart(&file).await;
    let after = file.lock().await;
    assert!(after.inspect(&x()).await.unwrap().is_none());
    assert!(pair(&after).await > lease.fence().get());
}

/// The clock that leases count on begins at zero again, so times of before are of no use.
#[tokio::test]
async fn what_an_earlier_start_left_marked_is_marked_no_more() {
    let file = TestFile::new();
    pair(&file.lock().await).await;
    let most = i64::MAX / 2;
    file.run(&format!("UPDATE distributed_lock SET waited_until = {most}, expires = {most}")).await;
    restart(&file).await;
    pair(&file.lock().await).await;
    let (waited, expires): (i64, i64) =
        file.row("SELECT waited_until, expires FROM distributed_lock").await;
    assert!(waited == 0 && expires < most, "{waited} {expires}");
}

#[tokio::test]
async fn a_file_that_another_machine_uses_is_refused() {
    let file = TestFile::new();
    let lock = file.lock().await;
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    // Another machine frees what it takes for the locks of an earlier start.
    restart(&file).await;
    assert_rejected(lock.acquire(&x(), LONG).await, "another machine");
    assert_rejected(lock.inspect(&x()).await, "another machine");
    let refused = lock.renew(&lease, LONG).await;
    assert!(matches!(refused, Err(LockError::NotHeld { .. })), "{refused:?}");
}
