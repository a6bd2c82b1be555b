//! A lock whose clones are used on several runtimes, which may end or compute.

use std::{sync::mpsc, thread, time::Duration};

use glock_sqlite::{Lock, LockExt, Retry, SqliteLock};
use tokio::{
    runtime::{Builder, Runtime},
    time::{sleep, timeout},
};

use crate::support::{LONG, SHORT, SOON, admin::TestFile, pair, x};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn wait_a_moment(lock: &SqliteLock) {
    lock.acquire_with_retry("x", LONG, Retry::within(SHORT)).await.unwrap_err();
}

#[test]
fn a_waiter_is_woken_although_the_watching_task_s_runtime_has_ended() {
    let (file, first) =
        (TestFile::new(), Builder::new_multi_thread().enable_all().build().unwrap());
    runtime().block_on(async {
        let (ours, theirs) = (file.lock().await, file.lock().await);
        let held = theirs.acquire(&x(), LONG).await.unwrap();
        let watching = ours.clone();
        first.spawn(async move { wait_a_moment(&watching).await }).await.unwrap();
        let waiter = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
        });
        sleep(SHORT).await;
        first.shutdown_background();
        theirs.release(&held).await.unwrap();
        let _lease = timeout(SOON, waiter).await.unwrap().unwrap().unwrap();
    });
}

#[test]
fn a_waiter_is_woken_although_the_watching_task_s_runtime_computes() {
    let (file, ours) = (TestFile::new(), runtime());
    let (lock, theirs) = ours.block_on(async { (file.lock().await, file.lock().await) });
    let held = ours.block_on(theirs.acquire(&x(), LONG)).unwrap();
    let (first, (ready, computes), (go_on, goes_on)) =
        (lock.clone(), mpsc::channel(), mpsc::channel());
    let busy = thread::spawn(move || {
        runtime().block_on(async {
            wait_a_moment(&first).await;
            ready.send(()).unwrap();
            // No await: neither timers nor sockets of this runtime are looked at.
            goes_on.recv().unwrap();
        });
    });
    computes.recv().unwrap();
    ours.block_on(async {
        let waiter = tokio::spawn({
            let lock = lock.clone();
            async move { lock.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
        });
        sleep(SHORT).await;
        theirs.release(&held).await.unwrap();
        let _lease = timeout(SOON, waiter).await.expect("it is never woken").unwrap().unwrap();
    });
    go_on.send(()).unwrap();
    busy.join().unwrap();
}

#[test]
fn a_lock_may_outlive_its_runtimes() {
    let file = TestFile::new();
    let lock = runtime().block_on(file.lock());
    for _ in 0..10 {
        runtime().block_on(pair(&lock));
        // Connections of runtimes that are gone do not pile up.
        assert!(file.descriptors() <= 60, "{}", file.descriptors());
    }
    // Neither outside of a runtime nor after its end does anything panic.
    drop(lock);
    thread::sleep(Duration::from_millis(10));
}
