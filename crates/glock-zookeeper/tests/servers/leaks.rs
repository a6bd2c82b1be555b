//! What waiters leave on the servers, by the servers' own count.

use std::time::Duration;

use glock_testing::{
    Fixture, fresh_namespace,
    process::{eventually, settles},
};
use glock_zookeeper::{Lock, LockExt, LockId, Retry};
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::sleep,
};

use crate::support::{cluster::Cluster, fixture::ZooKeeper};

const TTL: Duration = Duration::from_mins(2);
const SOON: Duration = Duration::from_secs(20);
const LOCKS: usize = 25;

/// A thousand waits end early, in the queue and outside of it: they leave no watch and no session
/// while the client lives on; and the client leaves none once it is dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an ensemble: run `cargo xtask integration zookeeper`"]
async fn a_thousand_dropped_waits_leave_neither_a_watch_nor_a_session() {
    let cluster = spawn_blocking(Cluster::start).await.unwrap();
    let store = ZooKeeper::at(cluster.addresses(), fresh_namespace()).await;
    let (ours, theirs) = (store.client().await, store.client().await);
    let mut held = Vec::new();
    for n in 0..LOCKS {
        held.push(theirs.hold(format!("x{n}"), TTL, Retry::NEVER).await.unwrap());
    }
    ours.hold("warm", TTL, Retry::NEVER).await.unwrap().release().await.unwrap();
    let (watches, sessions) = cluster.watches_and_sessions();
    assert_eq!(sessions, 3, "ours, theirs and the fixture's");
    let (all_seen, seen) = watch::channel(false);
    let mut waits = JoinSet::new();
    for n in 0..1_000_usize {
        let (ours, mut seen) = (ours.clone(), seen.clone());
        waits.spawn(async move {
            let id = LockId::new(format!("x{}", n % LOCKS)).unwrap();
            let patience = Duration::from_millis(n as u64 * 37 % 3_000);
            let give_up = async {
                seen.wait_for(|seen| *seen).await.unwrap();
                sleep(patience).await;
            };
            let waited = async {
                match n / LOCKS % 2 {
                    0 => drop(ours.acquire_with_retry(&id, TTL, Retry::within(TTL)).await),
                    _ => drop(ours.wait(&id, TTL).await),
                }
            };
            tokio::select! {
                () = waited => panic!("it did not wait"),
                () = give_up => {}
            }
        });
    }
    let most = watches + LOCKS as u64;
    eventually("the watches are counted", SOON, async || cluster.watches_and_sessions().0 >= most)
        .await;
    // No wait ends before, however long the members take to say so.
    all_seen.send(true).unwrap();
    waits.join_all().await;
    settles("watches", SOON, watches, async || cluster.watches_and_sessions().0).await;
    assert_eq!(cluster.watches_and_sessions().1, sessions);
    drop(ours);
    settles("sessions", SOON, sessions - 1, async || cluster.watches_and_sessions().1).await;
    drop(held);
}
