//! Runtimes that end, or stand still, while a lock lives on.

use std::{
    sync::{Arc, Barrier, mpsc},
    thread,
    time::Duration,
};

use glock_dynamodb::{LockExt, Retry};
use tokio::{
    runtime::{Builder, Runtime},
    time::sleep,
};

use crate::support::{BRIEF, LONG, admin::Admin, pair};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
fn a_lock_may_outlive_its_runtime() {
    let (first, second) = (runtime(), runtime());
    let (admin, ours) = first.block_on(async {
        let admin = Admin::bare().await;
        let ours = admin.lock();
        ours.create_table().await.unwrap();
        pair(&ours).await;
        (admin, ours)
    });
    drop(first);
    second.block_on(async {
        pair(&ours).await;
        let guard = ours.hold("x", 4 * BRIEF, Retry::NEVER).await.unwrap();
        sleep(5 * BRIEF).await;
        assert!(guard.is_valid());
        guard.release().await.unwrap();
        Admin::open().await.sdk.delete_table().table_name(&admin.table).send().await.unwrap();
    });
    drop(second);
    // Outside of a runtime nothing panics.
    drop(ours);
}

/// The connection that a thread has opened stands still with it: another thread's guard opens its own.
#[test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
fn a_guard_is_kept_while_the_runtime_of_its_connection_stands_still() {
    let ours = runtime().block_on(async {
        let ours = Admin::open().await.lock();
        let config =
            glock_dynamodb::LockConfig::default().with_namespace(glock_testing::fresh_namespace());
        ours.with_config(config).unwrap()
    });
    let (end, ended) = mpsc::channel::<()>();
    let opened = Arc::new(Barrier::new(2));
    let standing = thread::spawn({
        let (ours, opened) = (ours.clone(), Arc::clone(&opened));
        move || {
            runtime().block_on(async {
                pair(&ours).await;
                opened.wait();
                // Computes, and lets no task of this runtime run.
                let _ = ended.recv();
            });
        }
    });
    opened.wait();
    runtime().block_on(async {
        let ttl = 6 * BRIEF;
        let guard = ours.hold("y", ttl, Retry::within(LONG)).await.unwrap();
        sleep(ttl + Duration::from_millis(500)).await;
        assert!(guard.is_valid(), "it was lost");
        guard.release().await.unwrap();
    });
    drop(end);
    standing.join().unwrap();
}
