//! Statements that meet on a row: each pair in both orders, held open by a transaction.

use std::time::Duration;

use glock_postgres::{Lock, LockError, OwnerToken};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    database::{Database, LONG, SHORT, SOON, x},
    notify::{asleep, sleeper},
};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_sleeper_that_meets_a_release_does_not_sleep() {
    let db = Database::new().await;
    let (ours, theirs) = (db.lock(), db.lock());
    let _lease = ours.acquire(&x(), LONG).await.unwrap();
    // What a release does to an unmarked row.
    let releasing = db.open("UPDATE {t} SET owner = NULL").await;
    let sleeper = sleeper(&theirs).await;
    db.somebody_is_blocked().await;
    releasing.commit().await.unwrap();
    timeout(SOON, sleeper).await.expect("it sleeps on a free lock").unwrap().unwrap();
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_sleeper_that_meets_a_takeover_is_woken_by_the_next_release() {
    let db = Database::new().await;
    let (ours, theirs) = (db.lock(), db.lock());
    let _lease = ours.acquire(&x(), LONG).await.unwrap();
    let owner = OwnerToken::new("another-owner-token").unwrap();
    let taking_over =
        db.open("UPDATE {t} SET owner = 'another-owner-token', fence = fence + 1").await;
    let sleeper = sleeper(&theirs).await;
    db.somebody_is_blocked().await;
    taking_over.commit().await.unwrap();
    sleep(SHORT).await;
    assert!(!sleeper.is_finished(), "it sleeps on the new holder");
    let fence = glock_postgres::FencingToken::new(1);
    let lease = glock_postgres::Lease::granted(x(), owner, fence, Instant::now(), LONG);
    ours.release(&lease).await.unwrap();
    timeout(SOON, sleeper).await.expect("it was not woken").unwrap().unwrap();
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_sleeper_that_meets_a_renewal_sleeps_on_and_keeps_it() {
    let db = Database::new().await;
    let (ours, theirs) = (db.lock(), db.lock());
    let lease = ours.acquire(&x(), SOON).await.unwrap();
    let renewing =
        db.open("UPDATE {t} SET expiration_time = clock_timestamp() + interval '1 hour'").await;
    let sleeper = sleeper(&theirs).await;
    db.somebody_is_blocked().await;
    renewing.commit().await.unwrap();
    sleep(SOON + SHORT).await;
    assert!(!sleeper.is_finished(), "it was told of the time before the renewal");
    let kept: bool = db.value("waited AND expiration_time > now() + interval '50 minutes'").await;
    assert!(kept, "mark and renewal overwrote each other");
    ours.release(&lease).await.unwrap();
    timeout(SOON, sleeper).await.expect("it was not woken").unwrap().unwrap();
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_sleeper_that_meets_another_does_not_get_lost() {
    let db = Database::new().await;
    let (ours, theirs) = (db.lock(), db.lock());
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let marking = db.open("UPDATE {t} SET waited = true").await;
    let first = sleeper(&theirs).await;
    db.somebody_is_blocked().await;
    marking.commit().await.unwrap();
    // It may come back at once, or sleep on the other's mark; the release wakes it either way.
    sleep(SHORT).await;
    let second = asleep(&db, &theirs).await;
    ours.release(&lease).await.unwrap();
    for sleeper in [first, second] {
        timeout(SOON, sleeper).await.expect("it was not woken").unwrap().unwrap();
    }
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_first_try_that_meets_another_is_refused_and_not_an_error() {
    let db = Database::new().await;
    let ours = db.lock();
    for (end, granted) in [("COMMIT", false), ("ROLLBACK", true)] {
        db.run("DELETE FROM {t}").await;
        let inserting = db
            .open(
                "INSERT INTO {t} VALUES \
                 ('n/x', 'another-owner-token', 7, now() + interval '1 hour', 'them', false)",
            )
            .await;
        let trying = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire(&x(), LONG).await }
        });
        db.somebody_is_blocked().await;
        match end {
            "COMMIT" => inserting.commit().await.unwrap(),
            _ => inserting.rollback().await.unwrap(),
        }
        match trying.await.unwrap() {
            Ok(lease) => {
                assert!(granted);
                ours.release(&lease).await.unwrap();
            }
            Err(LockError::Held { .. }) => assert!(!granted),
            Err(err) => panic!("{err:?}"),
        }
    }
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_renewal_that_waits_for_a_takeover_is_refused() {
    let db = Database::new().await;
    let ours = db.lock();
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let taking_over = db.open("UPDATE {t} SET owner = 'another-owner-token'").await;
    let renewing = tokio::spawn({
        let ours = ours.clone();
        async move { (ours.renew(&lease, LONG).await, ours.release(&lease).await) }
    });
    db.somebody_is_blocked().await;
    taking_over.commit().await.unwrap();
    let (renewed, released) = renewing.await.unwrap();
    assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "{renewed:?}");
    assert!(matches!(released, Err(LockError::NotHeld { .. })), "{released:?}");
    let owner: Option<String> = db.value("owner").await;
    assert_eq!(owner.as_deref(), Some("another-owner-token"));
    db.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn sleeping_renewing_and_releasing_at_once_wakes_everybody() {
    let db = Database::new().await;
    let (ours, theirs, third) = (db.lock(), db.lock(), db.lock());
    for round in 0..150_u64 {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        let sleepers = [sleeper(&theirs).await, sleeper(&third).await];
        let pause = Duration::from_micros(round % 15 * 100);
        let since = Instant::now();
        let renewing = ours.renew(&lease, LONG);
        let (renewed, ()) = tokio::join!(renewing, async {
            while since.elapsed() < pause {
                tokio::task::yield_now().await;
            }
        });
        let _renewed = renewed.unwrap();
        ours.release(&lease).await.unwrap();
        for sleeper in sleepers {
            let woken = timeout(SOON, sleeper).await;
            woken.unwrap_or_else(|_| panic!("not woken in round {round}")).unwrap().unwrap();
        }
    }
    db.clean().await;
}
