//! Members of an ensemble die and stand still while tasks contend.

use std::time::Duration;

use glock_testing::{Fixture, History, fresh_namespace};
use glock_zookeeper::{Lock, LockError, LockExt, LossReason, Retry, ZooKeeperLock};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::{fixture::ZooKeeper, members::Cluster};

const TTL: Duration = Duration::from_secs(3);
const SESSION: Duration = Duration::from_secs(4);
const RUN: Duration = Duration::from_secs(60);
/// How long an election and the reconnection of all clients take at worst on a busy machine.
const ELECTION: Duration = Duration::from_secs(8);

async fn cluster() -> (Cluster, ZooKeeper) {
    let cluster = spawn_blocking(Cluster::start).await.unwrap();
    let store = ZooKeeper::at(cluster.addresses(), fresh_namespace()).await;
    (cluster, store)
}

async fn client(store: &ZooKeeper) -> ZooKeeperLock {
    store.client().await.with_session_timeout(SESSION).unwrap()
}

/// Holds again and again under a guard that renews, and stops as soon as the guard says so.
async fn contend(lock: ZooKeeperLock, history: History, who: String, until: Instant) -> Instant {
    let mut served = Instant::now();
    while Instant::now() < until {
        let attempt = history.acquiring(&who, "x");
        let Ok(guard) = lock.hold("x", TTL, Retry::within(RUN)).await else { continue };
        served = Instant::now();
        let mut hold = attempt.granted(guard.fence().get(), served + guard.remaining());
        let lost = timeout(Duration::from_millis(5), async {
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
        let releasing = hold.releasing();
        if guard.release().await.is_ok() {
            releasing.released();
        }
    }
    served
}

/// Twenty tasks of four clients contend for a minute while `harm` is done; all are served again
/// soon after it.
async fn survive(harm: impl AsyncFnOnce(&mut Cluster) -> Instant) {
    let (mut cluster, store) = cluster().await;
    let (history, from) = (History::new(), Instant::now());
    let mut tasks = JoinSet::new();
    for n in 0..20 {
        let lock = if n % 5 == 0 { Some(client(&store).await) } else { None };
        let lock = match lock {
            Some(lock) => lock,
            None => client(&store).await,
        };
        tasks.spawn(contend(lock, history.clone(), format!("task {n}"), from + RUN));
    }
    sleep(RUN / 6).await;
    let harmed = harm(&mut cluster).await;
    let summary = loop {
        let granted = history.records().into_iter().filter_map(|record| match record.outcome {
            glock_testing::history::Outcome::Granted(grant) => Some((record.who, grant.ok)),
            _ => None,
        });
        let after = history.since_epoch(harmed);
        let again: std::collections::HashSet<_> =
            granted.filter(|(_, at)| *at > after).map(|(who, _)| who).collect();
        if again.len() == 20 {
            break harmed.elapsed();
        }
        let limit = ELECTION + SESSION + TTL;
        assert!(harmed.elapsed() < limit, "only {} served again in {limit:?}", again.len());
        sleep(Duration::from_millis(50)).await;
    };
    println!("all twenty served again after {summary:?}");
    tasks.join_all().await;
    let summary = history.expect_sound();
    println!("{} grants", summary.grants);
    assert!(summary.grants > 200, "{} grants in a minute", summary.grants);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an ensemble: run `cargo xtask integration zookeeper`"]
async fn a_leader_that_is_killed_costs_an_election_and_no_two_hold() {
    survive(async |cluster| {
        let leader = cluster.leader();
        cluster.signal(leader, "KILL");
        let harmed = Instant::now();
        sleep(RUN / 4).await;
        cluster.restart(leader);
        harmed
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an ensemble: run `cargo xtask integration zookeeper`"]
async fn a_leader_that_stands_still_is_replaced_and_no_two_hold() {
    survive(async |cluster| {
        let leader = cluster.leader();
        cluster.signal(leader, "STOP");
        let harmed = Instant::now();
        sleep(TTL * 2).await;
        cluster.signal(leader, "CONT");
        harmed
    })
    .await;
}

/// Without a quorum, calls end within their time limit, a guard is lost by its session's end, and
/// all goes on when the quorum is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an ensemble: run `cargo xtask integration zookeeper`"]
async fn without_a_quorum_calls_end_in_time_and_holds_are_lost() {
    let (mut cluster, store) = cluster().await;
    let limit = Duration::from_secs(2);
    let lock = client(&store).await.with_config(store.config().with_call_timeout(limit)).unwrap();
    let guard = lock.hold("x", Duration::from_mins(1), Retry::NEVER).await.unwrap();
    let lease = lock.acquire(&"y".parse().unwrap(), Duration::from_mins(1)).await.unwrap();
    let leader = cluster.leader();
    let dead = [leader, (leader + 1) % 3];
    for member in dead {
        cluster.signal(member, "KILL");
    }
    let harmed = Instant::now();
    let result = timeout(limit * 2, lock.acquire(&"z".parse().unwrap(), TTL)).await;
    let err = result.expect("the call's limit did not hold").unwrap_err();
    assert!(matches!(err, LockError::Backend { .. }), "{err:?}");
    let reason = timeout(SESSION, guard.lost()).await.expect("the loss was not told");
    assert!(harmed.elapsed() < SESSION, "told after {:?}", harmed.elapsed());
    assert!(matches!(reason, LossReason::Expired | LossReason::TakenAway), "{reason:?}");
    assert!(lease.is_expired());
    drop(guard);
    for member in dead {
        cluster.restart(member);
    }
    let again = Retry::within(Duration::from_mins(1));
    let lease = lock.acquire_with_retry("x", TTL, again).await.unwrap();
    lock.release(&lease).await.unwrap();
}
