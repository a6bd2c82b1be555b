//! Twenty tasks contend while the primary goes or a secondary stands still.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_mongodb::mongodb::bson::doc;
use glock_mongodb::{Fault, LockError, LockExt, MongoLock, Retry};
use glock_testing::{
    History,
    history::{Grant, Outcome},
    process::settles,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{admin::Admin, cluster::Cluster};

const TTL: Duration = Duration::from_secs(3);
const RUN: Duration = Duration::from_mins(1);
const PATIENCE: Duration = Duration::from_mins(1);
/// How long an election and the reconnection of all clients take at worst on a busy machine.
const ELECTION: Duration = Duration::from_secs(12);
/// After so long all must be as if there had been no harm.
const HEALED: Duration = ELECTION.saturating_add(TTL);
/// What a busy machine may add to a call's time limit.
const LATE: Duration = Duration::from_secs(1);

/// When a release failed, how long it had taken, and why.
type Troubles = Arc<Mutex<Vec<(Instant, Duration, LockError)>>>;

/// Holds `id` again and again for `long` under a guard that renews, and stops as soon as the guard
/// says so. A wait of a minute never fails: an election is far shorter.
async fn contend(
    lock: MongoLock,
    (history, troubles): (History, Troubles),
    (who, id, long): (String, String, Duration),
    until: Instant,
) {
    while Instant::now() < until {
        let attempt = history.acquiring(&who, &id);
        let guard = lock.hold(&id, TTL, Retry::within(PATIENCE)).await;
        let guard = guard.unwrap_or_else(|err| panic!("{who} was not served: {err:?}"));
        let deadline = Instant::now() + guard.remaining();
        let mut hold = attempt.granted(guard.fence().get(), deadline);
        let lost = timeout(long, async {
            loop {
                sleep(Duration::from_millis(1)).await;
                if !guard.is_valid() {
                    return;
                }
            }
        });
        if lost.await.is_ok() {
            hold.lost();
            drop(guard);
            continue;
        }
        let (releasing, began) = (hold.releasing(), Instant::now());
        match guard.release().await {
            Ok(()) => releasing.released(),
            Err(err) => troubles.lock().unwrap().push((began, began.elapsed(), err)),
        }
    }
}

/// Only calls around the harm fail, in time, and because of the servers.
fn expect_excused(troubles: &Troubles, harmed: Instant, limit: Duration) {
    for (began, took, err) in troubles.lock().unwrap().iter() {
        let (from, until) = (harmed.checked_sub(limit).unwrap(), harmed + HEALED);
        assert!((from..until).contains(began), "failed without a cause: {err:?}");
        assert!(*took < limit + LATE, "failed only after {took:?}: {err:?}");
        // The lease may have been over at the election's end.
        let gone = matches!(err, LockError::NotHeld { .. });
        let store = matches!(err.fault(), Some(Fault::Unavailable | Fault::Unknown));
        assert!(gone || store, "{err:?}");
    }
}

/// Twenty tasks of four clients contend while `harm` is done; all are served again soon after it, and
/// nothing is left.
async fn survive(harm: impl AsyncFnOnce(&mut Cluster) -> Instant) {
    let mut cluster = Cluster::start(3).await;
    let admin = Admin::at(&cluster.url()).await;
    let (history, from) = (History::new(), Instant::now());
    let (troubles, limit) = (Troubles::default(), admin.config().call_timeout);
    let clients: Vec<_> = (0..4).map(|_| admin.lock()).collect();
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let (lock, notes) = (clients[n % 4].clone(), (history.clone(), Arc::clone(&troubles)));
        let work = (format!("task {n}"), "x".to_owned(), Duration::from_millis(5));
        tasks.spawn(contend(lock, notes, work, from + RUN));
    }
    // And some hold for long, so that the harm is done to their holds as well.
    for n in 0..8 {
        let (lock, notes) = (clients[n % 4].clone(), (history.clone(), Arc::clone(&troubles)));
        let work = (format!("long {n}"), format!("long-{}", n / 2), TTL * 2);
        tasks.spawn(contend(lock, notes, work, from + RUN));
    }
    sleep(RUN / 6).await;
    let harmed = harm(&mut cluster).await;
    tasks.join_all().await;
    let summary = history.expect_sound();
    println!("{} grants", summary.grants);
    assert!(summary.grants > 200, "{} grants in {RUN:?}", summary.grants);
    expect_excused(&troubles, harmed, limit);
    println!("{} releases failed", troubles.lock().unwrap().len());
    // A waiter behind one that holds for long waits for that one too.
    for (kind, count, most) in [("task", 20, HEALED), ("long", 8, HEALED + TTL * 4)] {
        let again = served_again(&history, kind, harmed);
        let worst = again.values().max().copied().unwrap_or_default();
        println!("every {kind} was served again within {worst:?}");
        assert_eq!(again.len(), count, "a {kind} was never served again");
        assert!(worst < most, "a {kind} was served again only after {worst:?}");
    }
    settles("holds", HEALED, 0, async || {
        let held = doc! {
            "owner": { "$type": "string" },
            "$expr": { "$gt": ["$expiration_time", "$$NOW"] },
        };
        admin.locks.count_documents(held).await.unwrap_or(u64::MAX)
    })
    .await;
}

/// How long it took until each of a kind was granted the lock after the harm.
fn served_again(history: &History, kind: &str, harmed: Instant) -> HashMap<Arc<str>, Duration> {
    let (harmed, mut again) = (history.since_epoch(harmed), HashMap::new());
    for record in history.records().into_iter().filter(|record| record.who.starts_with(kind)) {
        if let Outcome::Granted(Grant { ok, .. }) = record.outcome
            && ok > harmed
        {
            let after = ok.saturating_sub(harmed);
            let first = again.entry(record.who).or_insert(after);
            *first = after.min(*first);
        }
    }
    again
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a minute of contention around a step-down"]
async fn a_primary_that_steps_down_costs_an_election_and_no_two_hold() {
    survive(async |cluster| {
        let harmed = Instant::now();
        cluster.step_down().await;
        harmed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a minute of contention around a kill"]
async fn a_primary_that_is_killed_costs_an_election_and_no_two_hold() {
    survive(async |cluster| {
        let primary = cluster.primary().await;
        cluster.kill(primary);
        let harmed = Instant::now();
        sleep(RUN / 4).await;
        cluster.restart(primary);
        harmed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a minute of contention beside a member that stands still"]
async fn a_secondary_that_stands_still_costs_nothing_and_no_two_hold() {
    survive(async |cluster| {
        let secondary = (cluster.primary().await + 1) % 3;
        cluster.signal(secondary, "STOP");
        let harmed = Instant::now();
        sleep(RUN / 3).await;
        cluster.signal(secondary, "CONT");
        harmed
    })
    .await;
}
