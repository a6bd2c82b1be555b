//! What a hand-over costs the servers.

use std::time::Duration;

use glock_core::{Lock, LockExt, Retry};
use glock_testing::fresh_namespace;
use tokio::task::JoinSet;

use crate::support::{
    admin::{metric, watched},
    cluster::Cluster,
    id, lock,
};

const TTL: Duration = Duration::from_mins(1);
const PATIENT: Retry = Retry::within(Duration::from_mins(2));

/// What all members have received: requests and messages of streams.
async fn messages(cluster: &Cluster) -> f64 {
    metric(&cluster.endpoints(), |line| {
        line.starts_with("grpc_server_msg_received_total") && !line.contains("Maintenance")
    })
    .await
}

/// Requests a hand-over, with so many waiters of four clients on one lock.
async fn requests_a_hand_over(cluster: &Cluster, waiting: u16) -> f64 {
    let namespace = fresh_namespace();
    let holder = lock(&cluster.endpoints(), &namespace);
    let lease = holder.acquire(&id("x"), TTL).await.unwrap();
    let clients: Vec<_> = (0..4).map(|_| lock(&cluster.endpoints(), &namespace)).collect();
    let mut waiters = JoinSet::new();
    for n in 0..waiting {
        let ours = clients[usize::from(n % 4)].clone();
        waiters.spawn(async move {
            let lease = ours.acquire_with_retry("x", TTL, PATIENT).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    // Also those behind a waiter of their own client, which set up a watch a second later.
    watched(&cluster.endpoints(), waiting).await;
    let before = messages(cluster).await;
    holder.release(&lease).await.unwrap();
    waiters.join_all().await;
    (messages(cluster).await - before) / f64::from(waiting)
}

/// A release, a move up, and the watch that is no longer needed: with 8 waiters as with 64.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_hand_over_costs_the_same_however_many_wait() {
    let cluster = Cluster::start().await;
    let few = requests_a_hand_over(&cluster, 8).await;
    let many = requests_a_hand_over(&cluster, 64).await;
    println!("{few:.2} requests a hand-over with 8 waiters, {many:.2} with 64");
    assert!(many <= 4.0, "{many} requests a hand-over");
    assert!(many <= few + 0.5, "{few} requests with 8 waiters, {many} with 64");
}
