//! What the row keeps of the queue, and what statements that meet on it make of it.

use std::time::Duration;

use glock_postgres::{
    Lease, Lock, LockError, LockExt, LockId, PostgresLock, Retry,
    sqlx::{
        self,
        postgres::{PgListener, PgPoolOptions},
    },
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

use crate::support::{LONG, SHORT, SOON, admin::Admin, pair, x};

type Granted = JoinHandle<Result<Lease, LockError>>;

const PATIENT: Retry = Retry::within(Duration::from_mins(1));
/// What a row without waiters is like.
const EMPTY: &str = "num_nonnulls(waiters, seen, awaited_until) = 0";

/// A waiter in the queue of `x`, behind `before` others.
async fn queued(admin: &Admin, lock: &PostgresLock, before: i32) -> Granted {
    let lock = lock.clone();
    let granted = tokio::spawn(async move { lock.acquire_with_retry("x", LONG, PATIENT).await });
    until(admin, &format!("cardinality(waiters) = {}", before + 1)).await;
    granted
}

/// Waits until the row `x` is so.
async fn until(admin: &Admin, condition: &str) {
    let since = Instant::now();
    while !admin.value::<bool>(&format!("coalesce({condition}, false)")).await {
        assert!(since.elapsed() < SOON, "it never came to {condition}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn served(granted: Granted) -> Lease {
    timeout(SOON, granted).await.expect("the waiter was not served").unwrap().unwrap()
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_release_notifies_the_client_whose_turn_it_is_and_no_other() {
    let admin = Admin::open().await;
    let (ours, first, second) = (admin.lock(), admin.lock(), admin.lock());
    let held = ours.acquire(&x(), LONG).await.unwrap();
    let first = queued(&admin, &first, 0).await;
    let second = queued(&admin, &second, 1).await;
    let waiters: Vec<String> = admin.value("waiters").await;
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(admin.options.clone());
    let mut listener = PgListener::connect_with(&pool).await.unwrap();
    let channels: Vec<String> = waiters
        .iter()
        .map(|waiter| format!("glock:{}", waiter.split_once(':').unwrap().0))
        .chain([format!("glock:{}", admin.table)])
        .collect();
    listener.listen_all(channels.iter().map(String::as_str)).await.unwrap();

    ours.release(&held).await.unwrap();
    let lease = served(first).await;
    // Notifications arrive in the order of commits.
    admin.run(format!("NOTIFY \"glock:{}\", 'end'", admin.table)).await;
    let mut received = Vec::new();
    loop {
        let next = timeout(SOON, listener.recv()).await.expect("no notification").unwrap();
        if next.payload() == "end" {
            break;
        }
        received.push(format!("{}:{}", &next.channel()["glock:".len()..], next.payload()));
    }
    assert_eq!(received, waiters[..1]);

    ours.release(&lease).await.unwrap();
    ours.release(&served(second).await).await.unwrap();
    until(&admin, EMPTY).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_place_that_an_acquire_makes_after_its_caller_left_is_given_up() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let held = ours.acquire(&x(), LONG).await.unwrap();
    let locked = admin.transaction("SELECT FROM {t} WHERE lock_id = 'n/x' FOR UPDATE").await;
    let waiting = tokio::spawn({
        let theirs = theirs.clone();
        async move { theirs.acquire_with_retry("x", LONG, PATIENT).await }
    });
    admin.until_blocked().await;
    waiting.abort();
    sleep(SHORT).await;
    locked.commit().await.unwrap();
    assert_eq!(theirs.drain(SOON).await, 0);
    until(&admin, EMPTY).await;
    ours.release(&held).await.unwrap();
    pair(&theirs).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_reservation_and_places_of_the_future_do_not_hold_after_the_clock_went_back() {
    let admin = Admin::open().await;
    let lock = admin.lock();
    pair(&lock).await;
    admin
        .run(
            "UPDATE {t} SET reserved = 'gone:1', reserved_until = now() + interval '1 hour', \
             waiters = ARRAY['gone:2'], awaited_until = now() + interval '1 hour', \
             seen = jsonb_build_object('gone', (extract(epoch FROM now()) * 1000)::bigint + 3600000)",
        )
        .await;
    pair(&lock).await;
    until(&admin, "num_nonnulls(reserved, reserved_until, waiters, seen, awaited_until) = 0").await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn an_operator_who_frees_a_row_by_hand_wakes_the_first_waiter() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let _held = ours.acquire(&x(), LONG).await.unwrap();
    let waiter = queued(&admin, &theirs, 0).await;
    admin.run("UPDATE {t} SET owner = NULL").await;
    theirs.release(&served(waiter).await).await.unwrap();
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn heartbeats_for_the_same_locks_do_not_deadlock() {
    let admin = Admin::open().await;
    let (ours, clients) = (admin.lock(), [admin.lock(), admin.lock(), admin.lock()]);
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let deadlocks =
        async || -> i64 { sqlx::query_scalar(deadlocks).fetch_one(&admin.pool).await.unwrap() };
    let ids: Vec<LockId> = (0..40).map(|n| LockId::new(format!("x{n}")).unwrap()).collect();
    let (before, mut held, mut waiters) = (deadlocks().await, Vec::new(), JoinSet::new());
    for id in &ids {
        held.push(ours.acquire(id, LONG).await.unwrap());
    }
    for (n, client) in clients.iter().enumerate() {
        // Each client joins in another order.
        for at in 0..ids.len() {
            let (client, id) = (client.clone(), ids[(at * 7 + n * 13) % ids.len()].clone());
            waiters.spawn(async move {
                let lease = client.acquire_with_retry(id.as_str(), LONG, PATIENT).await.unwrap();
                client.release(&lease).await.unwrap();
            });
        }
    }
    sleep(Duration::from_secs(4)).await;
    for lease in &held {
        ours.release(lease).await.unwrap();
    }
    timeout(LONG, waiters.join_all()).await.expect("not all are served");
    assert_eq!(deadlocks().await, before);
    admin.clean().await;
}
