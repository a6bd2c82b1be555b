//! A full disk.

use glock_harness::chain;
use glock_sqlite::{Fault, Lock, LockError, LockId, SqliteLock};

use crate::support::{LONG, admin::TestFile, pair, x};

/// SQLite reports a file that has reached its limit as it reports a full disk.
#[tokio::test]
async fn a_full_disk_is_unavailable_and_costs_no_lock_that_is_held() {
    let file = TestFile::new();
    let lock = SqliteLock::new(&file.options().pragma("max_page_count", "6")).unwrap();
    let lease = lock.acquire(&x(), LONG).await.unwrap();
    let (mut granted, mut refused) = (Vec::new(), None);
    for n in 0..1_000 {
        let id = LockId::new(format!("{n}-{}", "long".repeat(50))).unwrap();
        match lock.acquire(&id, LONG).await {
            Ok(lease) => granted.push(lease),
            Err(err) => {
                refused = Some((id, err));
                break;
            }
        }
    }
    let (id, err) = refused.expect("the file never was full");
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{}", chain(&err));
    assert!(chain(&err).contains("the disk is full"), "{}", chain(&err));
    assert!(!granted.is_empty() && lock.inspect(&id).await.unwrap().is_none());
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    let refused = lock.release(&lease).await;
    assert!(matches!(refused, Err(LockError::NotHeld { .. })), "{refused:?}");
    // There is room again.
    let roomy = file.lock().await;
    let _held = roomy.acquire(&id, LONG).await.unwrap();
    pair(&roomy).await;
}
