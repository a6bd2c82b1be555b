//! The end of a lease: what renewals and waiters make of it.

use std::time::Duration;

use glock_postgres::{Lock, LockError};
use tokio::time::{Instant, sleep};

use crate::support::{
    LONG, SHORT,
    admin::{Admin, waiter, woken},
    x,
};

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_renewal_for_less_shortens_nothing() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let lease = ours.acquire(&x(), LONG).await.unwrap();
    let shorter = ours.renew(&lease, SHORT).await.unwrap();
    assert!(shorter.deadline() < lease.deadline());
    sleep(SHORT * 2).await;
    let held = theirs.acquire(&x(), LONG).await;
    assert!(matches!(held, Err(LockError::Held { .. })), "the first lease is still good");
    ours.release(&lease).await.unwrap();
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration postgres`"]
async fn a_waiter_wakes_by_itself_when_the_lease_has_run_out() {
    let admin = Admin::open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    theirs.wait(&x(), LONG).await.unwrap();
    let (since, ttl) = (Instant::now(), Duration::from_secs(1));
    let _vanished = ours.acquire(&x(), ttl).await.unwrap();
    woken(waiter(&theirs).await).await;
    assert!(since.elapsed() >= ttl, "{:?}", since.elapsed());
    let lease = theirs.acquire(&x(), LONG).await.unwrap();
    theirs.release(&lease).await.unwrap();
    admin.clean().await;
}
