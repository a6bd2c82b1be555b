//! A release notifies where there is a waiter, and only there; what waiters do without notifications.

use glock_harness::assert_fault;
use glock_postgres::{
    Fault, Lock, LockExt, Retry, Waiting,
    sqlx::postgres::{PgListener, PgPoolOptions},
};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    LONG, SHORT, SOON,
    admin::{Admin, until_it_listens, woken},
    pair, x,
};

/// A connection that listens for releases in the test's table.
async fn listen(admin: &Admin) -> PgListener {
    let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(SOON);
    let pool = pool.connect_lazy_with(admin.options.clone());
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    listener.listen(&format!("glock:{}", admin.table)).await.unwrap();
    listener
}

/// The notifications that were sent since the last call: notifications arrive in the order of commits.
async fn notifications(admin: &Admin, listener: &mut PgListener) -> Vec<String> {
    admin.run(format!("NOTIFY \"glock:{}\", 'end'", admin.table)).await;
    let mut received = Vec::new();
    loop {
        let next = timeout(SOON, listener.recv()).await.expect("no notification").unwrap();
        match next.payload() {
            "end" => return received,
            payload => received.push(payload.to_owned()),
        }
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_release_notifies_only_where_there_is_a_waiter() {
    let admin = Admin::open().await;
    let (ours, theirs, mut listener) = (admin.lock(), admin.lock(), listen(&admin).await);
    for _ in 0..10 {
        pair(&ours).await;
    }
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    assert!(theirs.acquire(&x(), LONG).await.is_err(), "refused, and no waiter");
    ours.release(&lease).await.unwrap();
    assert_eq!(notifications(&admin, &mut listener).await, Vec::<String>::new());

    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let waiter = admin.sleeping_waiter(&theirs).await;
    let lease = ours.renew(&lease, LONG).await.unwrap();
    ours.release(&lease).await.unwrap();
    woken(waiter).await;
    assert_eq!(notifications(&admin, &mut listener).await, ["n/x"]);

    pair(&ours).await;
    assert!(!admin.value::<bool>("waited").await, "a grant after a release resets it");
    assert_eq!(notifications(&admin, &mut listener).await, Vec::<String>::new());
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn waiters_of_all_clients_are_woken_and_may_wait_again() {
    let admin = Admin::open().await;
    let (ours, theirs, third) = (admin.lock(), admin.lock(), admin.lock());
    for _ in 0..3 {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        let one = admin.sleeping_waiter(&theirs).await;
        let two = admin.sleeping_waiter(&third).await;
        ours.release(&lease).await.unwrap();
        woken(one).await;
        woken(two).await;
    }
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_takeover_keeps_waited_for_those_who_still_wait() {
    let admin = Admin::open().await;
    let (ours, theirs, third) = (admin.lock(), admin.lock(), admin.lock());
    let vanished = ours.acquire(&x(), LONG).await.unwrap();
    let waiter = admin.sleeping_waiter(&theirs).await;
    // It runs out early, which only a DBA can make happen: no waiter is notified.
    admin.run("UPDATE {t} SET expiration_time = clock_timestamp()").await;
    let lease = third.acquire(&x(), LONG).await.unwrap();
    assert!(lease.fence() > vanished.fence());
    assert!(!waiter.is_finished());
    third.release(&lease).await.unwrap();
    woken(waiter).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_waiter_whose_listening_connection_was_ended_is_woken_all_the_same() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    until_it_listens(&ours).await;
    for _ in 0..3 {
        let held = theirs.acquire(&x(), LONG).await.unwrap();
        let waiting = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await }
        });
        sleep(SHORT).await;
        assert_eq!(admin.end_listening().await, 1, "one connection listens");
        admin.until_listening(1).await;
        assert!(!waiting.is_finished());
        theirs.release(&held).await.unwrap();
        let lease = timeout(SOON, waiting).await.expect("not woken").unwrap().unwrap();
        ours.release(&lease).await.unwrap();
    }
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn without_a_listener_waiters_poll() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock().without_listener());
    assert_eq!(ours.capabilities().waiting, Waiting::Pushed);
    assert_eq!(theirs.capabilities().waiting, Waiting::Polled);
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    timeout(SOON, theirs.wait(&x(), LONG)).await.expect("it does not poll").unwrap();
    assert!(!admin.value::<bool>("waited").await, "no connection listens, so none is notified");
    // A release by the same client wakes its waiters all the same.
    let waiter = tokio::spawn({
        let ours = ours.clone().without_listener();
        async move { ours.wait(&x(), LONG).await }
    });
    ours.release(&lease).await.unwrap();
    woken(waiter).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_listener_that_cannot_connect_fails_the_wait_and_not_the_lock() {
    let admin = Admin::open().await;
    let elsewhere = admin.client_options().database("no_such_database");
    let (ours, theirs) = (admin.lock().with_listener(elsewhere), admin.lock());
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    let (mut waited, since) = (ours.wait(&x(), LONG).await, Instant::now());
    while waited.is_ok() {
        assert!(since.elapsed() < SOON, "it was never noticed");
        waited = ours.wait(&x(), LONG).await;
    }
    assert_fault(waited, Fault::Rejected, "no_such_database");
    theirs.release(&lease).await.unwrap();
    pair(&ours).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_listener_on_another_database_is_found_to_be_silent() {
    let admin = Admin::open().await;
    let elsewhere = admin.client_options().database("template1");
    let (ours, theirs) = (admin.lock().with_listener(elsewhere), admin.lock());
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    let since = Instant::now();
    while ours.capabilities().waiting == Waiting::Pushed {
        assert!(since.elapsed() < SOON, "it was never noticed");
        ours.wait(&x(), LONG).await.unwrap();
    }
    timeout(SOON, ours.wait(&x(), LONG)).await.expect("it does not poll").unwrap();
    theirs.release(&lease).await.unwrap();
    admin.clean().await;
}
