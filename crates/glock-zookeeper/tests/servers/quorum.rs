//! Members of an ensemble die and stand still while tasks contend.

use std::{collections::HashMap, time::Duration};

use glock_harness::Outage;
use glock_testing::{
    Fixture, fresh_namespace,
    process::{eventually, settles},
};
use glock_zookeeper::{
    Fault, Lease, Lock, LockError, LockExt, LockId, LossReason, Retry, ZooKeeperLock,
};
use tokio::{
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use crate::support::{cluster::Cluster, fixture::ZooKeeper};

const TTL: Duration = Duration::from_secs(3);
const SESSION: Duration = Duration::from_secs(4);
/// Long enough for the harm, and for what may follow it: see `Outage`.
const RUN: Duration = Duration::from_secs(36);
const PATIENCE: Duration = Duration::from_mins(1);
/// How long an election and the reconnection of all clients take at worst on a busy machine.
const ELECTION: Duration = Duration::from_secs(8);
const HEALED: Duration = ELECTION.saturating_add(SESSION).saturating_add(TTL);
/// How late a call that ends in its time may be seen to end on a machine that is busy with an election.
/// Without a limit none would end at all.
const LATE_MAX: Duration = Duration::from_secs(20);

async fn cluster() -> (Cluster, ZooKeeper) {
    let cluster = spawn_blocking(Cluster::start).await.unwrap();
    let store = ZooKeeper::at(cluster.addresses(), fresh_namespace()).await;
    (cluster, store)
}

async fn client(store: &ZooKeeper) -> ZooKeeperLock {
    store.client().await.with_session_timeout(SESSION).unwrap()
}

/// Whether the store says that it failed, and not that the request was wrong.
fn store_failed(err: &LockError) -> bool {
    matches!(err.fault(), Some(Fault::Unavailable | Fault::Unknown))
}

/// No node is left, of a hold or of a waiter, while the clients that made them live on.
async fn expect_nothing_left(cluster: &Cluster, namespace: &str) {
    let store = ZooKeeper::at(cluster.addresses(), namespace.to_owned()).await;
    settles("nodes", HEALED, 0, async || store.residue().await).await;
}

/// Twenty tasks of four clients contend while `harm` is done; all are served again soon after it, and
/// nothing is left.
async fn survive(harm: impl AsyncFnOnce(&mut Cluster) -> Instant) {
    let (mut cluster, store) = cluster().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(client(&store).await);
    }
    let call_timeout = store.config().call_timeout;
    let outage = Outage { run: RUN, ttl: TTL, call_timeout, late_max: LATE_MAX, healed: HEALED };
    outage.survive(&clients, async || harm(&mut cluster).await).await;
    expect_nothing_left(&cluster, &store.namespace).await;
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

/// Without a quorum, every call says within its time limit that the servers failed, and a guard is
/// lost by its session's end. When the quorum is back, all waiters are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an ensemble: run `cargo xtask integration zookeeper`"]
async fn without_a_quorum_calls_end_in_time_and_holds_are_lost() {
    let (mut cluster, store) = cluster().await;
    let limit = Duration::from_secs(2);
    let limited = store.config().with_call_timeout(limit);
    let lock = client(&store).await.with_config(limited.clone()).unwrap();
    let theirs = client(&store).await.with_config(limited).unwrap();
    let guard = lock.hold("x", Duration::from_mins(1), Retry::NEVER).await.unwrap();
    let y: LockId = "y".parse().unwrap();
    let lease = lock.acquire(&y, HEALED).await.unwrap();
    let before = lease.fence().max(guard.fence());
    let mut waiters = JoinSet::new();
    for (n, name) in ["x", "y", "x", "y", "x", "y"].into_iter().enumerate() {
        let client = if n < 4 { theirs.clone() } else { lock.clone() };
        // A waiter that looks this often meets the outage.
        let often = Retry::within(PATIENCE * 2).with_pause_max(Duration::from_millis(200));
        waiters.spawn(async move { (name, client.hold(name, TTL, often).await) });
    }
    for name in ["x", "y"] {
        let queue = format!("{}/{name}@queue", store.root());
        eventually("all are in the queue", HEALED, async || {
            store.children(&queue).await.len() == 3
        })
        .await;
    }
    let leader = cluster.leader();
    let dead = [leader, (leader + 1) % 3];
    for member in dead {
        cluster.kill(member);
    }
    let harmed = Instant::now();
    expect_failures(&lock, &lease, limit).await;
    let reason = timeout(SESSION, guard.lost()).await.expect("the loss was not reported");
    assert!(harmed.elapsed() < SESSION, "reported after {:?}", harmed.elapsed());
    assert!(matches!(reason, LossReason::Expired | LossReason::TakenAway), "{reason:?}");
    // A loss is reported a timer's tick before the deadline.
    sleep(Duration::from_millis(10)).await;
    assert!(lease.is_expired());
    drop(guard);
    for member in dead {
        cluster.restart(member);
    }
    // The lease that is not released may keep its lock for its whole time.
    let mut last = HashMap::from([("x", before), ("y", before)]);
    while let Some(served) =
        timeout(PATIENCE, waiters.join_next()).await.expect("no waiter is served")
    {
        let (name, guard) = served.unwrap();
        let guard = guard.unwrap_or_else(|err| panic!("not served after the outage: {err:?}"));
        let fence = guard.fence();
        let previous = last.insert(name, fence);
        assert!(
            previous.is_some_and(|previous| previous < fence),
            "{name}: {previous:?}, {fence:?}"
        );
        guard.release().await.unwrap();
    }
    expect_nothing_left(&cluster, &store.namespace).await;
}

/// Every call returns in time, and says that the servers failed.
async fn expect_failures(lock: &ZooKeeperLock, lease: &Lease, limit: Duration) {
    let (z, began) = ("z".parse().unwrap(), Instant::now());
    let timed = |result: Result<(), LockError>| (result, began.elapsed());
    let results: [(Result<(), LockError>, Duration); 4] = tokio::join!(
        async { timed(lock.acquire(&z, TTL).await.map(drop)) },
        async { timed(lock.renew(lease, TTL).await.map(drop)) },
        async { timed(lock.inspect(lease.id()).await.map(drop)) },
        async { timed(lock.hold("w", TTL, Retry::within(limit)).await.map(drop)) },
    )
    .into();
    for (n, (result, took)) in results.into_iter().enumerate() {
        let err = result.expect_err("no quorum could have agreed");
        assert!(store_failed(&err), "call {n}: {err:?}");
        assert!(took < limit + LATE_MAX, "call {n} failed only after {took:?}: {err:?}");
    }
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
    assert!(reason.is_ok(), "the loss was not reported");
    drop(guard);
}
