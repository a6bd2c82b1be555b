//! Runtimes that end while a lock lives on.

use glock_postgres::Lock;
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::support::{
    LONG, SHORT, SOON,
    admin::{Admin, until_it_listens, woken},
    x,
};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
fn a_lock_may_outlive_its_runtime() {
    let (first, second) = (runtime(), runtime());
    let (admin, lock, waiter) = first.block_on(async {
        let admin = Admin::open().await;
        let (ours, theirs) = (admin.lock(), admin.lock());
        let _held = theirs.acquire(&x(), LONG).await.unwrap();
        let waiter = admin.sleeping_waiter(&ours).await;
        (admin, ours, waiter)
    });
    drop(first);
    drop(waiter);
    // The listening task went with its runtime; another is started where it is needed.
    let again = second.block_on(async {
        let again = Admin::bare().await;
        let renamed = again.config().with_table(&admin.table);
        let (ours, theirs) = (lock.clone(), again.lock().with_config(renamed).unwrap());
        let result = timeout(SOON, ours.wait(&x(), SHORT)).await;
        assert!(result.is_ok(), "the wait never ended");
        assert!(theirs.acquire(&x(), LONG).await.is_err(), "it is still held");
        again.run(format!("DROP TABLE \"{}\"", admin.table)).await;
        theirs
    });
    drop(second);
    // Neither outside of a runtime nor after its end does anything panic.
    drop((lock, again));
}

/// The listening task runs on the runtime of the first waiter.
#[test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
fn a_waiter_is_woken_although_the_listening_task_s_runtime_has_ended() {
    let (first, second) = (runtime(), runtime());
    second.block_on(async {
        let admin = Admin::open().await;
        let (ours, theirs) = (admin.lock(), admin.lock());
        let held = theirs.acquire(&x(), LONG).await.unwrap();
        let listening = ours.clone();
        first.spawn(async move { until_it_listens(&listening).await }).await.unwrap();
        let waiter = admin.sleeping_waiter(&ours).await;
        first.shutdown_background();
        // It comes back, because a release may be missed from now on.
        woken(waiter).await;
        let waiter = admin.sleeping_waiter(&ours).await;
        theirs.release(&held).await.unwrap();
        woken(waiter).await;
        admin.clean().await;
    });
}
