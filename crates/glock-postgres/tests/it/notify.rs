//! A notification is sent when somebody sleeps, and only then.

use std::time::Duration;

use glock_postgres::{
    Lock, LockError, LockId, PostgresLock,
    sqlx::postgres::{PgListener, PgPoolOptions},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::database::{Database, LONG, SHORT, SOON, pair, x};

/// Hears what is told of the test's table.
async fn ears(db: &Database) -> PgListener {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(db.options.clone());
    let mut ears = PgListener::connect_with(&pool).await.unwrap();
    ears.listen(&format!("glock:{}", db.table)).await.unwrap();
    ears
}

/// What is heard from now on, until it is quiet. Proofs that a listener is heard do not count.
async fn heard(ears: &mut PgListener) -> Vec<String> {
    let mut heard = Vec::new();
    while let Ok(notification) = timeout(SHORT, ears.recv()).await {
        heard.push(notification.unwrap().payload().to_owned());
    }
    heard.retain(|payload| !payload.starts_with('?'));
    heard
}

/// Until it listens, a lock comes back early from a wait, and asks.
pub(crate) async fn listening(lock: &PostgresLock) {
    let other = LockId::new("warm").unwrap();
    for _ in 0..50 {
        lock.wait(&other, LONG).await.unwrap();
        if format!("{lock:?}").contains("listener: listening") {
            return;
        }
    }
    panic!("it never listened: {lock:?}");
}

pub(crate) async fn sleeper(lock: &PostgresLock) -> JoinHandle<Result<(), LockError>> {
    listening(lock).await;
    let lock = lock.clone();
    tokio::spawn(async move { lock.wait(&x(), LONG * 60).await })
}

/// A sleeper that sleeps by now.
pub(crate) async fn asleep(
    db: &Database,
    lock: &PostgresLock,
) -> JoinHandle<Result<(), LockError>> {
    let sleeper = sleeper(lock).await;
    for _ in 0..100 {
        if db.value::<bool>("waited").await {
            // The mark is made; its answer is on its way.
            sleep(Duration::from_millis(50)).await;
            assert!(!sleeper.is_finished(), "it did not sleep");
            return sleeper;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the lock was never marked");
}

async fn awake(sleeper: JoinHandle<Result<(), LockError>>) {
    timeout(SOON, sleeper).await.expect("the sleeper was not woken").unwrap().unwrap();
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_release_tells_only_when_somebody_sleeps() {
    let db = Database::new().await;
    let (ours, theirs, mut ears) = (db.lock(), db.lock(), ears(&db).await);
    for _ in 0..10 {
        pair(&ours).await;
    }
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    assert!(theirs.acquire(&x(), LONG).await.is_err(), "refused, and not asleep");
    ours.release(&lease).await.unwrap();
    assert_eq!(heard(&mut ears).await, Vec::<String>::new());

    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let sleeper = asleep(&db, &theirs).await;
    let lease = ours.renew(&lease, LONG).await.unwrap();
    ours.release(&lease).await.unwrap();
    awake(sleeper).await;
    assert_eq!(heard(&mut ears).await, ["n/x"]);

    pair(&ours).await;
    assert!(!db.value::<bool>("waited").await, "a grant after a release begins unmarked");
    assert_eq!(heard(&mut ears).await, Vec::<String>::new());
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn sleepers_of_all_clients_are_woken_and_may_sleep_again() {
    let db = Database::new().await;
    let (ours, theirs, third) = (db.lock(), db.lock(), db.lock());
    for _ in 0..3 {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        let (one, two) = (asleep(&db, &theirs).await, asleep(&db, &third).await);
        ours.release(&lease).await.unwrap();
        awake(one).await;
        awake(two).await;
    }
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_takeover_keeps_the_mark_for_those_who_still_sleep() {
    let db = Database::new().await;
    let (ours, theirs, third) = (db.lock(), db.lock(), db.lock());
    let vanished = ours.acquire(&x(), LONG).await.unwrap();
    let sleeper = asleep(&db, &theirs).await;
    // It runs out early, which only a DBA can make happen: nobody is told.
    db.run("UPDATE {t} SET expiration_time = clock_timestamp()").await;
    let lease = third.acquire(&x(), LONG).await.unwrap();
    assert!(lease.fence() > vanished.fence());
    assert!(!sleeper.is_finished());
    third.release(&lease).await.unwrap();
    awake(sleeper).await;
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_renewal_for_less_takes_nothing_back() {
    let db = Database::new().await;
    let (ours, theirs) = (db.lock(), db.lock());
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let shorter = ours.renew(&lease, SHORT).await.unwrap();
    assert!(shorter.deadline() < lease.deadline());
    sleep(SHORT * 2).await;
    let held = theirs.acquire(&x(), LONG).await;
    assert!(matches!(held, Err(LockError::Held { .. })), "the first lease is still good");
    ours.release(&lease).await.unwrap();
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_sleeper_wakes_by_itself_when_the_lease_has_run_out() {
    let db = Database::new().await;
    let (ours, theirs) = (db.lock(), db.lock());
    theirs.wait(&x(), LONG).await.unwrap();
    let since = Instant::now();
    let _vanished = ours.acquire(&x(), SHORT).await.unwrap();
    awake(sleeper(&theirs).await).await;
    assert!(since.elapsed() >= SHORT, "{:?}", since.elapsed());
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    theirs.release(&lease).await.unwrap();
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn without_a_listener_waiters_ask() {
    use glock_postgres::Waiting;
    let db = Database::new().await;
    let (ours, theirs) = (db.lock(), db.lock().without_listener());
    assert_eq!(ours.capabilities().waiting, Waiting::Pushed);
    assert_eq!(theirs.capabilities().waiting, Waiting::Polled);
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let since = Instant::now();
    theirs.wait(&x(), LONG).await.unwrap();
    assert!(since.elapsed() < SOON);
    assert!(!db.value::<bool>("waited").await, "nobody listens, so nobody is to be told");
    // A release by the same client is heard all the same.
    let sleeper = tokio::spawn({
        let ours = ours.clone().without_listener();
        async move { ours.wait(&x(), LONG).await }
    });
    ours.release(&lease).await.unwrap();
    awake(sleeper).await;
    db.clean().await;
}
