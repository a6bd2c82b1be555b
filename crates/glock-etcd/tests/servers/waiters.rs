//! What waiting costs the server.

use std::time::Duration;

use glock_core::{Lock, LockExt, Retry};
use glock_testing::{Proxy, fresh_namespace};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    common::{Bare, cluster::Cluster, metric, url, watched},
    id, lock,
};

const TTL: Duration = Duration::from_mins(1);
const PATIENT: Retry = Retry::within(Duration::from_mins(2));

/// A thousand waiters share one connection and one keep-alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd`"]
async fn a_thousand_idle_waiters_cost_one_request_a_second_at_most() {
    const IDLE_SECS: u64 = 20;
    let namespace = fresh_namespace();
    let upstream = url()[0].trim_start_matches("http://").parse().unwrap();
    let proxy = Proxy::start(upstream).await.unwrap();
    let holder = lock(&url(), &namespace);
    let ours = lock(&[proxy.addr().to_string()], &namespace);
    let mut held = Vec::new();
    for n in 0..10 {
        held.push(holder.acquire(&id(&format!("x{n}")), TTL * 10).await.unwrap());
    }
    let mut waiters = JoinSet::new();
    for n in 0..1_000 {
        let ours = ours.clone();
        waiters.spawn(async move {
            let name = format!("x{}", n % 10);
            let lease = ours.acquire_with_retry(name, TTL, PATIENT).await.unwrap();
            ours.release(&lease).await.unwrap();
        });
    }
    let bare = Bare::connect(&url()).await;
    while bare.keys(&namespace).await.len() < 1_010 {
        sleep(Duration::from_millis(100)).await;
    }
    settled(&bare).await;
    let before = proxy.counts();
    sleep(Duration::from_secs(IDLE_SECS)).await;
    let asked = proxy.counts() - before;
    // A keep-alive every two seconds, and nothing else.
    assert!(asked.requests <= IDLE_SECS / 2 + 2, "{} requests in {IDLE_SECS} s", asked.requests);
    assert!(proxy.connections() <= 2, "{} connections", proxy.connections());
    let since = Instant::now();
    for lease in held {
        holder.release(&lease).await.unwrap();
    }
    waiters.join_all().await;
    println!("1,000 hand-overs in {:?}", since.elapsed());
    assert_eq!(bare.keys(&namespace).await.len(), 0);
}

/// Waits until the spare leases that the tries have left are given back.
async fn settled(bare: &Bare) {
    let (since, mut changed, mut leases) = (Instant::now(), Instant::now(), 0);
    while changed.elapsed() < Duration::from_secs(6) {
        assert!(since.elapsed() < Duration::from_mins(1), "the number of leases goes on changing");
        let now = bare.leases().await;
        if std::mem::replace(&mut leases, now) != now {
            changed = Instant::now();
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// What all members have been sent: requests and messages of streams.
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
    // Those too that stand behind one of their own client, who have asked for it a second later.
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
