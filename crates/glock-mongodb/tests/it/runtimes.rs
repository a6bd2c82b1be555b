//! Runtimes that compute or end while a lock lives on.

use std::{sync::mpsc, thread};

use glock_mongodb::{Lock, LockExt, MongoLock, Retry, mongodb::Client};
use glock_testing::process::eventually;
use tokio::runtime::{Builder, Runtime};

use crate::support::{LONG, SOON, admin::Admin, pair, sleeping_waiter, watches, woken, x};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The stream was opened by a waiter on a runtime that has ended, and so were the heartbeats begun.
#[test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
fn a_waiter_is_woken_although_the_runtime_of_the_first_waiter_has_ended() {
    let (first, second) = (runtime(), runtime());
    second.block_on(async {
        let admin = Admin::open().await;
        let (ours, theirs) = (admin.lock(), admin.lock());
        let held = theirs.acquire(&x(), LONG).await.unwrap();
        let waits = ours.clone();
        first.spawn(async move {
            let _ = waits.acquire_with_retry("x", LONG, Retry::within(LONG)).await;
        });
        eventually("the stream is open", SOON, async || watches(&ours)).await;
        let waiter = sleeping_waiter(&ours).await;
        first.shutdown_background();
        theirs.release(&held).await.unwrap();
        woken(waiter).await;
        admin.clean().await;
    });
}

/// More calls than a client has in flight are under way on a runtime that computes: those of another
/// runtime get their connections all the same, also over an application's client.
#[test]
#[ignore = "needs a server: run `cargo xtask integration mongodb`"]
fn calls_of_a_runtime_that_computes_keep_no_connection() {
    let second = runtime();
    second.block_on(async {
        let admin = Admin::open().await;
        let client = Client::with_options(admin.options.clone()).unwrap();
        let theirs = MongoLock::new(client).with_config(admin.config()).unwrap();
        for lock in [admin.lock(), theirs] {
            pair(&lock).await;
            let (calls, (end, ends)) = (lock.clone(), mpsc::channel::<()>());
            let (stopped, computes) = tokio::sync::oneshot::channel();
            let first = thread::spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for n in 0..50 {
                        let (calls, id) = (calls.clone(), format!("other {n}").parse().unwrap());
                        tokio::spawn(async move { calls.inspect(&id).await });
                    }
                    tokio::task::yield_now().await;
                    stopped.send(()).unwrap();
                    // No task of this runtime runs any more.
                    let _ = ends.recv();
                });
            });
            computes.await.unwrap();
            for _ in 0..20 {
                pair(&lock).await;
            }
            drop(end);
            first.join().unwrap();
        }
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
        lock
    });
    drop(first);
    // Neither outside of a runtime nor on another one does anything panic.
    let debug = format!("{lock:?}");
    assert!(debug.contains("MongoLock"), "{debug}");
    runtime().block_on(async {
        assert!(tokio::time::timeout(SOON, pair(&lock)).await.is_ok());
    });
    drop(lock);
}
