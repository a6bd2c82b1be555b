//! Many tasks at once, also under settings that make concurrent transactions fail.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use glock_harness::chain;
use glock_postgres::{Lock, LockError, LockExt, LockId, Retry};
use tokio::task::JoinSet;

use crate::support::{LONG, admin::Admin, x};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn any_isolation_level_will_do() {
    for level in ["read committed", "repeatable read", "serializable"] {
        let admin = Admin::open().await;
        let options = admin.client_options().options([("default_transaction_isolation", level)]);
        let clients = [admin.lock_with(options.clone(), 8), admin.lock_with(options, 8)];
        // Acquires of a lock that has no row yet.
        for round in 0..10 {
            let mut attempts = JoinSet::new();
            for n in 0..16 {
                let lock = clients[n % 2].clone();
                let id = LockId::new(format!("first{round}")).unwrap();
                attempts.spawn(async move { lock.acquire(&id, LONG).await });
            }
            let mut granted = 0;
            for result in attempts.join_all().await {
                match result {
                    Ok(_lease) => granted += 1,
                    Err(LockError::Held { .. }) => {}
                    Err(err) => panic!("{level}: {}", chain(&err)),
                }
            }
            assert_eq!(granted, 1, "{level}");
        }
        let (inside, mut tasks) = (Arc::new(AtomicU32::new(0)), JoinSet::new());
        for n in 0..16 {
            let (lock, inside) = (clients[n % 2].clone(), Arc::clone(&inside));
            tasks.spawn(async move {
                for _ in 0..5 {
                    let guard = lock.hold("x", LONG, Retry::within(LONG)).await.unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two held it");
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    guard.release().await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        admin.clean().await;
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_refused_acquire_writes_nothing() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    // The row's version: which transaction locked it last, and where it is stored.
    let before: String = admin.value("xmin::text || xmax::text || ctid::text").await;
    for _ in 0..20 {
        let refused = theirs.acquire(&x(), LONG).await;
        assert!(matches!(refused, Err(LockError::Held { holder: Some(_), .. })), "{refused:?}");
    }
    let after: String = admin.value("xmin::text || xmax::text || ctid::text").await;
    assert_eq!(before, after);
    ours.release(&lease).await.unwrap();
    admin.clean().await;
}
