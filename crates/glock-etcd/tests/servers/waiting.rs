//! What a hand-over costs the servers.

use std::time::Duration;

use glock_core::{Lock, LockExt, Retry};
use glock_testing::fresh_namespace;
use tokio::{task::JoinSet, time::sleep};

use crate::support::{
    admin::{Admin, metric, watched},
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

/// Commits a hand-over, with these many clients that take a lock again and again.
async fn commits_a_hand_over(cluster: &Cluster, clients: usize) -> f64 {
    const ROUNDS: u16 = 100;
    let (namespace, mut tasks) = (fresh_namespace(), JoinSet::new());
    let endpoints = cluster.endpoints();
    let committed = || metric(&endpoints, |line| line.starts_with("etcd_server_proposals_applied"));
    let clients: Vec<_> = (0..clients).map(|_| lock(&cluster.endpoints(), &namespace)).collect();
    // Each has a session and a lease.
    let lease = clients[0].acquire(&id("x"), TTL).await.unwrap();
    for ours in &clients {
        let brief = Retry::within(Duration::from_millis(300));
        assert!(ours.acquire_with_retry("x", TTL, brief).await.is_err());
    }
    clients[0].release(&lease).await.unwrap();
    let before = committed().await;
    for ours in clients.clone() {
        tasks.spawn(async move {
            for _ in 0..ROUNDS {
                let lease = ours.acquire_with_retry("x", TTL, PATIENT).await.unwrap();
                sleep(Duration::from_millis(2)).await;
                ours.release(&lease).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let grants = f64::from(ROUNDS) * f64::from(u16::try_from(clients.len()).unwrap());
    (committed().await - before) / grants
}

/// A release, the next waiter's turn, and one request that is refused and joins the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd --native`"]
async fn a_hand_over_takes_three_commits() {
    let cluster = Cluster::of(1).await;
    let commits = commits_a_hand_over(&cluster, 4).await;
    println!("{commits:.2} commits a hand-over");
    assert!(commits <= 3.4, "{commits} commits a hand-over");
}

/// The server's work for a waiter that joins is the same however many wait already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd --native`"]
async fn joining_the_queue_costs_the_same_however_many_wait() {
    const MANY: i64 = 600;
    let cluster = Cluster::of(1).await;
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()).await);
    let holder = lock(&cluster.endpoints(), &namespace);
    let _held = holder.acquire(&id("x"), TTL).await.unwrap();
    let ours = lock(&cluster.endpoints(), &namespace);
    let mut waiters = JoinSet::new();
    let (mut seconds, endpoints) = (Vec::new(), cluster.endpoints());
    for crowd in 1..=3_i64 {
        let cpu = || metric(&endpoints, |line| line.starts_with("process_cpu_seconds"));
        let before = cpu().await;
        for _ in 0..MANY {
            let ours = ours.clone();
            waiters.spawn(async move { ours.acquire_with_retry("x", TTL, PATIENT).await.is_ok() });
        }
        while admin.count(&namespace).await < crowd * MANY {
            sleep(Duration::from_millis(200)).await;
        }
        seconds.push(cpu().await - before);
    }
    println!("{seconds:?} s of processor for {MANY} waiters each");
    assert!(seconds[2] < seconds[0] * 2.5, "{seconds:?}");
}
