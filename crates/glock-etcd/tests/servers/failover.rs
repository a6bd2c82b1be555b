//! The leader of three dies or is paused while twenty tasks contend.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use glock_core::{Lock, LockError, LockExt, Retry};
use glock_etcd::{EtcdLock, LockConfig, connect_options};
use glock_testing::{History, fresh_namespace};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::support::cluster::Cluster;

/// As long as the disturbances take.
const RUN: Duration = Duration::from_secs(36);
const TASKS: usize = 20;
const TTL: Duration = Duration::from_secs(5);
/// An election takes one to three of etcd's time-outs of a second; twice, if the vote is split.
const ELECTION: Duration = Duration::from_secs(6);
/// For a busy machine, and for requests that wait at the paused member.
const SLACK: Duration = Duration::from_secs(4);

/// When the lock was granted, one after the other, and for how long that one had waited.
type Grants = Arc<Mutex<Vec<(Instant, Duration)>>>;

/// Contends until `until`, and records what it got.
async fn contend(lock: EtcdLock, who: String, history: History, grants: Grants, until: Instant) {
    let mut wanted_at = Instant::now();
    while Instant::now() < until {
        let attempt = history.acquiring(&who, "x");
        let lease = match lock.acquire_with_retry("x", TTL, Retry::within(TTL * 6)).await {
            Ok(lease) => lease,
            Err(err @ LockError::Timeout { .. }) => panic!("{who} was forgotten: {err:?}"),
            Err(err) if err.is_retryable() => {
                attempt.unknown();
                continue;
            }
            Err(err) => panic!("{who}: {err:?}"),
        };
        let hold = attempt.granted(lease.fence().get(), lease.deadline());
        grants.lock().unwrap().push((Instant::now(), wanted_at.elapsed()));
        sleep(Duration::from_millis(5)).await;
        let releasing = hold.releasing();
        match lock.release(&lease).await {
            Ok(()) => releasing.released(),
            Err(LockError::NotHeld { .. }) => {}
            Err(err) => assert!(err.is_retryable(), "{who}: {err:?}"),
        }
        wanted_at = Instant::now();
    }
}

/// Runs the tasks of two clients while `disturb` kills or pauses members.
async fn run(disturb: impl AsyncFnOnce(&mut Cluster)) {
    let mut cluster = Cluster::start().await;
    let (history, grants) = (History::new(), Grants::default());
    let namespace = fresh_namespace();
    let until = Instant::now() + RUN;
    let mut tasks = JoinSet::new();
    let clients: Vec<_> = (0..2)
        .map(|_| {
            let config = LockConfig::default().with_namespace(&namespace);
            EtcdLock::from_endpoints(cluster.endpoints(), connect_options())
                .with_config(config)
                .unwrap()
        })
        .collect();
    for n in 0..TASKS {
        let (lock, who) = (clients[n % 2].clone(), format!("task {n}"));
        tasks.spawn(contend(lock, who, history.clone(), Arc::clone(&grants), until));
    }
    let began = Instant::now();
    disturb(&mut cluster).await;
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let summary = history.expect_sound();
    let grants = grants.lock().unwrap().clone();
    // The first and the last grant count from where the run began and ended.
    let mut times = vec![began];
    times.extend(grants.iter().map(|(at, _)| *at));
    times.push(until.max(*times.last().unwrap()));
    let gaps = times.windows(2).map(|pair| (pair[1] - pair[0], pair[0] - began));
    let (longest, at) = gaps.max().unwrap();
    let waited = grants.iter().map(|(_, waited)| *waited).max().unwrap();
    println!(
        "{} grants; none for {longest:?} at {at:?}, none to one task for {waited:?}; {} to {} a task",
        grants.len(),
        summary.share_min(),
        summary.share_max()
    );
    assert!(longest <= ELECTION + TTL + SLACK, "no grant for {longest:?} at {at:?}");
    assert!(waited <= ELECTION + TTL + SLACK, "a task waited for {waited:?}");
    assert!(summary.share_min() > 0, "a task starved");
    assert!(began.elapsed() < RUN + ELECTION + TTL * 2 + SLACK, "it did not come to an end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_killed_leader_is_survived() {
    run(async |cluster| {
        for _ in 0..3 {
            sleep(Duration::from_secs(5)).await;
            let leader = cluster.leader().await;
            cluster.kill(leader);
            // An election, and some grants.
            sleep(ELECTION).await;
            cluster.restart(leader);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_paused_leader_is_survived() {
    run(async |cluster| {
        for _ in 0..2 {
            sleep(Duration::from_secs(6)).await;
            let leader = cluster.leader().await;
            cluster.signal(leader, "STOP");
            sleep(TTL * 2).await;
            cluster.signal(leader, "CONT");
        }
    })
    .await;
}
