//! Leases that run out where no clock but the observers' own decides.

use std::time::{Duration, SystemTime};

use aws_smithy_async::time::TimeSource;
use glock_dynamodb::{DynamoDbLock, Lease, Lock, LockError, LockExt, Retry};
use tokio::time::{Instant, sleep};

use crate::support::{
    BRIEF, LONG, SOON,
    admin::{Admin, conf},
    x,
};

/// A wall clock that is wrong by so much.
#[derive(Debug)]
struct Shifted {
    ahead: Duration,
    behind: Duration,
}

impl TimeSource for Shifted {
    #[expect(clippy::disallowed_methods, reason = "it stands for a machine's wall clock")]
    fn now(&self) -> SystemTime {
        SystemTime::now() + self.ahead - self.behind
    }
}

const HOUR: Duration = Duration::from_hours(1);

/// Two clients whose wall clocks are two hours apart.
fn shifted(admin: &Admin) -> [DynamoDbLock; 2] {
    let zero = Duration::ZERO;
    [Shifted { ahead: HOUR, behind: zero }, Shifted { ahead: zero, behind: HOUR }]
        .map(|clock| admin.lock_of(conf(admin.addr).time_source(clock)))
}

async fn open() -> Admin {
    let admin = Admin::bare().await;
    admin.lock().create_table().await.unwrap();
    admin
}

/// Tries until the lock is granted. Asks only, and never waits.
async fn only_tries(lock: &DynamoDbLock) -> Lease {
    let since = Instant::now();
    loop {
        match lock.acquire(&x(), LONG).await {
            Ok(lease) => return lease,
            Err(LockError::Held { .. }) => assert!(since.elapsed() < SOON, "never granted"),
            Err(err) => panic!("{err}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn clients_whose_clocks_are_hours_apart_exclude_each_other() {
    let admin = open().await;
    let [ahead, behind] = shifted(&admin);
    for (ours, theirs) in [(&ahead, &behind), (&behind, &ahead)] {
        let lease = ours.acquire(&x(), LONG).await.unwrap();
        let until = Instant::now() + 3 * BRIEF;
        while Instant::now() < until {
            let refused = theirs.acquire(&x(), LONG).await;
            assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
            sleep(BRIEF / 10).await;
        }
        let lease = ours.renew(&lease, LONG).await.unwrap();
        ours.release(&lease).await.unwrap();
        // And a lease ends for both, neither early nor never.
        let brief = ours.acquire(&x(), BRIEF).await.unwrap();
        let taken = only_tries(theirs).await;
        assert!(brief.is_expired(), "taken over while {:?} were left", brief.remaining());
        assert!(taken.fence() > brief.fence());
        theirs.release(&taken).await.unwrap();
    }
    admin.clean().await;
}

#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_caller_that_only_tries_gets_the_lock_of_a_dead_holder() {
    let admin = open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    let dead = theirs.acquire(&x(), BRIEF).await.unwrap();
    let first_try = Instant::now();
    let lease = only_tries(&ours).await;
    assert!(first_try.elapsed() >= BRIEF, "taken over after {:?}", first_try.elapsed());
    assert!(lease.fence() > dead.fence());
    for stale in [theirs.renew(&dead, BRIEF).await.map(drop), theirs.release(&dead).await] {
        assert!(matches!(stale, Err(LockError::NotHeld { .. })), "{stale:?}");
    }
    ours.release(&lease).await.unwrap();
    admin.clean().await;
}

/// One look proves nothing, however old the record is.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_client_that_looks_late_watches_for_a_whole_lease() {
    let admin = open().await;
    let (ours, theirs) = (admin.lock(), admin.lock());
    drop(theirs.acquire(&x(), BRIEF).await.unwrap());
    sleep(2 * BRIEF).await;
    let since = Instant::now();
    let refused = ours.acquire(&x(), LONG).await;
    let Err(LockError::Held { holder: Some(holder), .. }) = refused else { panic!("{refused:?}") };
    assert!(holder.remaining.is_some_and(|left| left <= BRIEF), "{holder}");
    let lease = ours.acquire_with_retry("x", LONG, Retry::within(SOON)).await.unwrap();
    assert!(since.elapsed() >= BRIEF, "taken over after {:?}", since.elapsed());
    ours.release(&lease).await.unwrap();
    admin.clean().await;
}

/// Each renewal is a new version, so the watch begins again; one that was missed is found by the takeover
/// itself, whose condition names the version that was watched.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn a_holder_that_renews_is_never_taken_over() {
    let admin = open().await;
    let (ours, theirs, rarely) = (admin.lock(), admin.lock(), admin.lock());
    let guard = theirs.hold("x", 4 * BRIEF, Retry::NEVER).await.unwrap();
    assert!(rarely.acquire(&x(), LONG).await.is_err());
    let until = Instant::now() + 9 * BRIEF;
    while Instant::now() < until {
        assert!(ours.acquire(&x(), LONG).await.is_err(), "taken over");
        sleep(BRIEF / 10).await;
    }
    // It has seen the first version alone, for two leases.
    let refused = rarely.acquire(&x(), LONG).await;
    assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
    assert!(guard.is_valid());
    guard.release().await.unwrap();
    admin.clean().await;
}

/// A renewal for less than what another client has renewed the same hold for does not cut that short.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration dynamodb`"]
async fn no_client_cuts_short_what_another_one_has_renewed() {
    let admin = open().await;
    let (ours, theirs, third) = (admin.lock(), admin.lock(), admin.lock());
    let lease = ours.acquire(&x(), BRIEF).await.unwrap();
    let copy: Lease = lease.to_secret_text().parse().unwrap();
    let long = theirs.renew(&copy, LONG).await.unwrap();
    drop(ours.renew(&lease, BRIEF).await.unwrap());
    let until = Instant::now() + 2 * BRIEF;
    while Instant::now() < until {
        assert!(third.acquire(&x(), LONG).await.is_err(), "the longer lease was cut short");
        sleep(BRIEF / 10).await;
    }
    assert!(!long.is_expired());
    theirs.release(&long).await.unwrap();
    admin.clean().await;
}
