//! Members of an ensemble die and stand still while tasks contend.

use std::{collections::HashMap, sync::Arc, time::Duration};

use glock_testing::{
    Fixture, History, fresh_namespace,
    history::{Grant, Outcome},
};
use glock_zookeeper::{Lock, LockError, LockExt, LossReason, Retry, ZooKeeperLock};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::{fixture::ZooKeeper, members::Cluster};

const TTL: Duration = Duration::from_secs(3);
const SESSION: Duration = Duration::from_secs(4);
const RUN: Duration = Duration::from_mins(1);
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

/// Holds `id` again and again for `long` under a guard that renews, and stops as soon as the guard
/// says so.
async fn contend(
    lock: ZooKeeperLock,
    history: History,
    (who, id, long): (String, String, Duration),
    until: Instant,
) {
    while Instant::now() < until {
        let attempt = history.acquiring(&who, &id);
        let Ok(guard) = lock.hold(&id, TTL, Retry::within(RUN)).await else { continue };
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
        let releasing = hold.releasing();
        if guard.release().await.is_ok() {
            releasing.released();
        }
    }
}

/// Twenty tasks of four clients contend for a minute while `harm` is done; all are served again
/// soon after it.
async fn survive(harm: impl AsyncFnOnce(&mut Cluster) -> Instant) {
    let (mut cluster, store) = cluster().await;
    let (history, from) = (History::new(), Instant::now());
    let (mut tasks, mut clients) = (JoinSet::new(), Vec::new());
    for _ in 0..4 {
        clients.push(client(&store).await);
    }
    for n in 0..20 {
        let (lock, history) = (clients[n % 4].clone(), history.clone());
        let work = (format!("task {n}"), "x".to_owned(), Duration::from_millis(5));
        tasks.spawn(contend(lock, history, work, from + RUN));
    }
    // And some hold for long, so that the harm is done to their holds as well.
    for n in 0..8 {
        let (lock, history) = (clients[n % 4].clone(), history.clone());
        let work = (format!("long {n}"), format!("long-{}", n / 2), TTL * 2);
        tasks.spawn(contend(lock, history, work, from + RUN));
    }
    sleep(RUN / 6).await;
    let harmed = harm(&mut cluster).await;
    tasks.join_all().await;
    let summary = history.expect_sound();
    println!("{} grants", summary.grants);
    assert!(summary.grants > 200, "{} grants in a minute", summary.grants);
    let again = served_again(&history, harmed);
    let worst = again.values().max().copied().unwrap_or_default();
    println!("all twenty were served again within {worst:?}");
    assert_eq!(again.len(), 20, "somebody was never served again");
    assert!(worst < ELECTION + SESSION + TTL, "served again only after {worst:?}");
}

/// How long it took until each was granted the lock after the harm.
fn served_again(history: &History, harmed: Instant) -> HashMap<Arc<str>, Duration> {
    let (harmed, mut again) = (history.since_epoch(harmed), HashMap::new());
    for record in history.records().into_iter().filter(|record| record.who.starts_with("task")) {
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
#[ignore = "needs an ensemble: run `cargo xtask integration zookeeper`"]
async fn a_leader_that_is_killed_costs_an_election_and_no_two_hold() {
    survive(async |cluster| {
        let leader = cluster.leader();
        cluster.kill(leader);
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
        cluster.kill(member);
    }
    let harmed = Instant::now();
    let result = timeout(limit * 2, lock.acquire(&"z".parse().unwrap(), TTL)).await;
    let err = result.expect("the call's limit did not hold").unwrap_err();
    assert!(matches!(err, LockError::Backend { .. }), "{err:?}");
    let reason = timeout(SESSION, guard.lost()).await.expect("the loss was not told");
    assert!(harmed.elapsed() < SESSION, "told after {:?}", harmed.elapsed());
    assert!(matches!(reason, LossReason::Expired | LossReason::TakenAway), "{reason:?}");
    // A loss is told a timer's tick before the deadline.
    sleep(Duration::from_millis(10)).await;
    assert!(lease.is_expired());
    drop(guard);
    for member in dead {
        cluster.restart(member);
    }
    let again = Retry::within(Duration::from_mins(1));
    let lease = lock.acquire_with_retry("x", TTL, again).await.unwrap();
    lock.release(&lease).await.unwrap();
}

/// A member that is cut off from the quorum goes on answering its clients' reads and pings, which
/// proves nothing: they give up before the others may have ended their sessions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an ensemble: run `cargo xtask integration zookeeper`"]
async fn holds_at_a_member_that_is_cut_off_are_lost_in_time() {
    let (cluster, store) = cluster().await;
    let leader = cluster.leader();
    let others = [leader, (leader + 1) % 3];
    let follower = ZooKeeper::at(cluster.address((leader + 2) % 3), store.namespace.clone()).await;
    let lock = client(&follower).await;
    let guard = lock.hold("x", Duration::from_mins(1), Retry::NEVER).await.unwrap();
    sleep(SESSION).await;
    assert!(guard.is_valid(), "the session is kept alive");
    for member in others {
        cluster.signal(member, "STOP");
    }
    let reason = timeout(SESSION * 4 / 5, guard.lost()).await;
    for member in others {
        cluster.signal(member, "CONT");
    }
    assert!(reason.is_ok(), "the loss was not told");
    drop(guard);
}
