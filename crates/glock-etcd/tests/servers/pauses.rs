//! Waiters that outlive a server that stands still, and turns that come late.

use std::time::Duration;

use glock_core::{Lock, LockError, LockExt, Retry};
use glock_testing::fresh_namespace;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{SOON, TTL, admin::Admin, cluster::Cluster, id, lock, queue};

/// The shortest that etcd grants.
const SHORT: Duration = Duration::from_secs(2);
const CLIENTS: usize = 8;

/// What passes by itself ends no wait: neither the leases made ahead nor those of waiters are there when
/// the server goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd --native`"]
async fn a_wait_outlives_a_server_that_stands_still() {
    let cluster = Cluster::of(1).await;
    for pause in [4_000, 4_500].map(Duration::from_millis) {
        let namespace = fresh_namespace();
        let until = Instant::now() + pause * 2;
        let mut clients = JoinSet::new();
        for n in 0..CLIENTS {
            let ours = lock(&cluster.endpoints(), &namespace);
            // So that the pause meets each step of some client.
            let name = if n % 2 == 0 { "x".to_owned() } else { format!("x{n}") };
            clients.spawn(async move {
                while Instant::now() < until {
                    let patient = Retry::within(Duration::from_mins(1));
                    let lease = ours.acquire_with_retry(&name, SHORT, patient).await?;
                    match ours.release(&lease).await {
                        Err(err) if !err.is_retryable() && err.fault().is_some() => {
                            return Err(err);
                        }
                        _ => {}
                    }
                }
                Ok(())
            });
        }
        sleep(pause / 4).await;
        cluster.signal(0, "STOP");
        sleep(pause).await;
        cluster.signal(0, "CONT");
        for ended in clients.join_all().await {
            ended.unwrap_or_else(|err: LockError| panic!("after {pause:?}: {err:?}"));
        }
    }
}

/// A waiter that once was refused its turn has it later, whenever that is: neither the lease that its
/// hold will be on nor its place runs out meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a server: run `cargo xtask integration etcd --native`"]
async fn a_waiter_keeps_its_place_whenever_its_turn_comes() {
    let cluster = Cluster::of(1).await;
    let mut turns = JoinSet::new();
    for late in (1_900..=2_600).step_by(50) {
        let endpoints = cluster.endpoints();
        turns.spawn(async move {
            let (namespace, admin) = (fresh_namespace(), Admin::connect(&endpoints).await);
            let [holder, leaving, staying] = [(); 3].map(|()| lock(&endpoints, &namespace));
            let held = holder.acquire(&id("x"), TTL).await.unwrap();
            let wait = |lock: glock_etcd::EtcdLock| {
                tokio::spawn(async move {
                    let patient = Retry::within(Duration::from_mins(1));
                    lock.acquire_with_retry("x", SHORT, patient).await
                })
            };
            let before = wait(leaving);
            queue(&admin, &namespace, 2).await;
            let waiter = wait(staying.clone());
            let place = queue(&admin, &namespace, 3).await.swap_remove(2);
            // It moves up, and is refused.
            before.abort();
            queue(&admin, &namespace, 2).await;
            sleep(Duration::from_millis(late)).await;
            holder.release(&held).await.unwrap();
            let lease = timeout(SOON, waiter).await.expect("it is forgotten").unwrap().unwrap();
            let kept = u64::try_from(place.created).unwrap() == lease.fence().get();
            assert!(kept, "after {late} ms it went to the end of the queue");
            let _may_be_gone = staying.release(&lease).await;
        });
    }
    while let Some(turn) = turns.join_next().await {
        turn.unwrap();
    }
}
