//! Runtimes that end while a lock lives on.

use glock_mongodb::Lock;
use tokio::runtime::{Builder, Runtime};

use crate::support::{LONG, SHORT, SOON, admin::Admin, pair, sleeping_waiter, watches, woken, x};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The driver's own tasks run on the runtime on which its client was made; that one lives on here.
#[test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
fn a_waiter_is_woken_although_the_runtime_of_the_stream_has_ended() {
    let (first, second) = (runtime(), runtime());
    second.block_on(async {
        let admin = Admin::open().await;
        let (ours, theirs) = (admin.lock(), admin.lock());
        pair(&ours).await;
        let held = theirs.acquire(&x(), LONG).await.unwrap();
        let watching = ours.clone();
        let opened = async move {
            while !watches(&watching) {
                watching.wait(&x(), SHORT).await.unwrap();
            }
        };
        first.spawn(opened).await.unwrap();
        let waiter = sleeping_waiter(&ours).await;
        first.shutdown_background();
        // It looks again, because a release may be missed from now on, and goes on waiting.
        let stopped = async {
            while watches(&ours) {
                tokio::time::sleep(SHORT / 10).await;
            }
        };
        let _ = tokio::time::timeout(SOON, stopped).await;
        theirs.release(&held).await.unwrap();
        woken(waiter).await;
        admin.clean().await;
    });
}

#[test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
fn a_lock_may_outlive_its_runtime() {
    let first = runtime();
    let lock = first.block_on(async {
        let admin = Admin::open().await;
        let lock = admin.lock();
        pair(&lock).await;
        admin.clean().await;
        lock
    });
    drop(first);
    // Neither outside of a runtime nor after its end does anything panic.
    let debug = format!("{lock:?}");
    assert!(debug.contains("MongoLock"), "{debug}");
    drop(lock);
}
