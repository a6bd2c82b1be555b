//! Tokens never go back, not even after a loss of power and with a clock that went back.

use glock_sqlite::{Lock, LockId, SqliteLock};

use crate::support::{LONG, admin::TestFile, pair, x};

/// What tokens are less than, as it is on the disk.
async fn token_max(file: &TestFile) -> i64 {
    file.row::<(i64,)>("SELECT token_max FROM glock").await.0
}

async fn token(lock: &SqliteLock) -> i64 {
    i64::try_from(pair(lock).await).unwrap()
}

#[tokio::test]
async fn a_token_is_on_the_disk_before_it_is_given_out() {
    let file = TestFile::new();
    let lock = file.lock().await;
    assert!(token(&lock).await < token_max(&file).await);
    for _ in 0..5 {
        file.run("UPDATE glock SET token_max = 1").await;
        let token = token(&lock).await;
        assert!(token < token_max(&file).await, "{token}");
    }
    // One that is far ahead of the clock as well.
    file.run("UPDATE distributed_lock SET fence = fence + 1000000000000").await;
    let token = token(&lock).await;
    assert!(token > 1_000_000_000_000 && token < token_max(&file).await, "{token}");
}

/// A loss of power undoes what was not on the disk: all rows, but not `token_max`.
#[tokio::test]
async fn tokens_grow_after_a_loss_of_power_though_the_clock_went_back() {
    let file = TestFile::new();
    let lock = file.lock().await;
    let ahead = 1_000_000_000_000_000_i64;
    file.run(&format!("UPDATE distributed_lock SET fence = fence + {ahead}")).await;
    pair(&lock).await;
    file.run(&format!("UPDATE distributed_lock SET fence = fence + {ahead}")).await;
    // The clock is now that far behind.
    let before = token(&lock).await;
    drop(lock);
    file.run("DELETE FROM distributed_lock; UPDATE glock SET boot = 'before'").await;
    for n in 0..3 {
        let lock = file.lock().await;
        let id = LockId::new(format!("x{n}")).unwrap();
        let lease = lock.acquire(&id, LONG).await.unwrap();
        assert!(i64::try_from(lease.fence().get()).unwrap() > before, "{lease:?}");
        file.run("UPDATE glock SET boot = 'again'").await;
    }
}

#[tokio::test]
async fn tokens_of_a_deleted_file_are_behind_those_of_the_next() {
    let file = TestFile::new();
    let before = pair(&file.lock().await).await;
    std::fs::remove_file(&file.path).unwrap();
    let lock = file.lock().await;
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    assert!(lease.fence().get() > before);
}
