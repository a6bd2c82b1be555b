//! Statements that meet on a row: each pair in both orders, held open by a transaction.

use std::time::Duration;

use glock_postgres::{Lock, LockError, OwnerToken};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    LONG, SHORT, SOON,
    admin::{Admin, waiter, woken},
    x,
};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_waiter_that_meets_a_release_does_not_sleep() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let _lease = ours.acquire(&x(), LONG).await.unwrap();
    // What a release does to an row that is not waited for.
    let releasing = admin.transaction("UPDATE {t} SET owner = NULL").await;
    let waiter = waiter(&theirs).await;
    admin.until_blocked().await;
    releasing.commit().await.unwrap();
    woken(waiter).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_waiter_that_meets_a_takeover_is_woken_by_the_next_release() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let _lease = ours.acquire(&x(), LONG).await.unwrap();
    let owner = OwnerToken::new("another-owner-token").unwrap();
    let taking_over =
        admin.transaction("UPDATE {t} SET owner = 'another-owner-token', fence = fence + 1").await;
    let waiter = waiter(&theirs).await;
    admin.until_blocked().await;
    taking_over.commit().await.unwrap();
    sleep(SHORT).await;
    assert!(!waiter.is_finished(), "it sleeps on the new holder");
    let fence = glock_postgres::FencingToken::new(1);
    let lease = glock_postgres::Lease::granted(x(), owner, fence, Instant::now(), LONG);
    ours.release(&lease).await.unwrap();
    woken(waiter).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_waiter_that_meets_a_renewal_sleeps_on_and_keeps_it() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let ttl = Duration::from_secs(4);
    let lease = ours.acquire(&x(), ttl).await.unwrap();
    let renewing = admin
        .transaction("UPDATE {t} SET expiration_time = clock_timestamp() + interval '1 hour'")
        .await;
    let waiter = waiter(&theirs).await;
    admin.until_blocked().await;
    renewing.commit().await.unwrap();
    sleep(ttl + SHORT).await;
    assert!(!waiter.is_finished(), "it slept until the end before the renewal");
    let kept: bool =
        admin.value("waited AND expiration_time > now() + interval '50 minutes'").await;
    assert!(kept, "`waited` and the renewal overwrote each other");
    ours.release(&lease).await.unwrap();
    woken(waiter).await;
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_waiter_that_meets_another_does_not_get_lost() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let setting = admin.transaction("UPDATE {t} SET waited = true").await;
    let first = waiter(&theirs).await;
    admin.until_blocked().await;
    setting.commit().await.unwrap();
    // It may come back at once, or sleep; the release wakes it either way.
    sleep(SHORT).await;
    let second = admin.sleeping_waiter(&theirs).await;
    ours.release(&lease).await.unwrap();
    for waiter in [first, second] {
        woken(waiter).await;
    }
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_first_acquire_that_meets_another_is_refused_and_not_an_error() {
    let admin = Admin::open().await;
    let ours = admin.lock();
    for (end, granted) in [("COMMIT", false), ("ROLLBACK", true)] {
        admin.run("DELETE FROM {t}").await;
        let inserting = admin
            .transaction(
                "INSERT INTO {t} VALUES \
                 ('n/x', 'another-owner-token', 7, now() + interval '1 hour', 'them', false)",
            )
            .await;
        let acquiring = tokio::spawn({
            let ours = ours.clone();
            async move { ours.acquire(&x(), LONG).await }
        });
        admin.until_blocked().await;
        match end {
            "COMMIT" => inserting.commit().await.unwrap(),
            _ => inserting.rollback().await.unwrap(),
        }
        match acquiring.await.unwrap() {
            Ok(lease) => {
                assert!(granted);
                ours.release(&lease).await.unwrap();
            }
            Err(LockError::Held { .. }) => assert!(!granted),
            Err(err) => panic!("{err:?}"),
        }
    }
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_renewal_that_waits_for_a_takeover_is_refused() {
    let admin = Admin::open().await;
    let ours = admin.lock();
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let taking_over = admin.transaction("UPDATE {t} SET owner = 'another-owner-token'").await;
    let renewing = tokio::spawn({
        let ours = ours.clone();
        async move { (ours.renew(&lease, LONG).await, ours.release(&lease).await) }
    });
    admin.until_blocked().await;
    taking_over.commit().await.unwrap();
    let (renewed, released) = renewing.await.unwrap();
    assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "{renewed:?}");
    assert!(matches!(released, Err(LockError::NotHeld { .. })), "{released:?}");
    let owner: Option<String> = admin.value("owner").await;
    assert_eq!(owner.as_deref(), Some("another-owner-token"));
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn waiting_renewing_and_releasing_at_once_wakes_every_waiter() {
    let admin = Admin::open().await;
    let (ours, theirs, third) = (admin.lock(), admin.lock(), admin.lock());
    for round in 0..150_u64 {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        let waiters = [waiter(&theirs).await, waiter(&third).await];
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
        for waiter in waiters {
            let woken = timeout(SOON, waiter).await;
            woken.unwrap_or_else(|_| panic!("not woken in round {round}")).unwrap().unwrap();
        }
    }
    admin.clean().await;
}
