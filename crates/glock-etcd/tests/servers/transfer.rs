//! Transfers of a hold to another lease whose replies are lost.

use std::time::Duration;

use glock_core::{Fault, Lease, Lock};
use glock_etcd::EtcdLock;
use glock_testing::{Proxy, fresh_namespace, process::settles};
use tokio::time::sleep;

use crate::support::{admin::Admin, cluster::Cluster, id, lock};

/// The longer TTL: a lost transfer is looked for again after a quarter of it.
const LONG: Duration = Duration::from_secs(8);
const SHORT: Duration = Duration::from_secs(6);
/// There is time to get in between two requests.
const DELAY: Duration = Duration::from_millis(150);

struct Scene {
    namespace: String,
    admin: Admin,
    proxy: Proxy,
    ours: EtcdLock,
    _cluster: Cluster,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start().await;
        let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()).await);
        let first = cluster.endpoints()[0].trim_start_matches("http://").parse().unwrap();
        let proxy = Proxy::start(first).await.unwrap();
        let ours = lock(&[proxy.addr().to_string()], &namespace);
        Self { namespace, admin, proxy, ours, _cluster: cluster }
    }

    /// A hold that has moved to a longer lease, and whose reply was lost.
    async fn moved_unacknowledged(&self) -> Lease {
        // Leaves a lease for the move.
        let other = self.ours.acquire(&id("other"), LONG).await.unwrap();
        self.ours.release(&other).await.unwrap();
        let held = self.ours.acquire(&id("x"), SHORT).await.unwrap();
        let before = self.admin.keys(&self.namespace).await.swap_remove(0);
        self.proxy.delay(DELAY);
        let (asked, ours) = (self.proxy.requests(), self.ours.clone());
        let renewal = tokio::spawn(async move { (ours.renew(&held, LONG).await, held) });
        while self.proxy.requests() < asked + 2 {
            tokio::task::yield_now().await;
        }
        // The keep-alive and the read have their replies, and the transfer is in flight.
        self.proxy.drop_replies();
        let moved = async || {
            let now = self.admin.keys(&self.namespace).await.swap_remove(0);
            usize::from(now.created == before.created && now.lease == before.lease)
        };
        settles("holds that did not move", LONG, 0, moved).await;
        self.proxy.refuse();
        self.proxy.cut();
        let (renewed, held) = renewal.await.unwrap();
        assert_eq!(renewed.unwrap_err().fault(), Some(Fault::Unknown));
        held
    }
}

/// It is found where it is, and the lease that it was on is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_transfer_without_a_reply_is_resolved() {
    let scene = Scene::new().await;
    let held = scene.moved_unacknowledged().await;
    scene.proxy.pass();
    let leases = async || scene.admin.leases().await;
    settles("the lease that it was on", LONG / 2, 1, leases).await;
    let longer = scene.ours.renew(&held, LONG).await.unwrap();
    assert_eq!((longer.ttl(), longer.fence()), (LONG, held.fence()));
    scene.ours.release(&longer).await.unwrap();
}

/// The lease that it moved to may have been given back and be another hold's when it is resolved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn resolving_a_transfer_leaves_the_next_hold_alone() {
    let scene = Scene::new().await;
    for next in ["x", "y"] {
        let held = scene.moved_unacknowledged().await;
        // The first look of the resolution fails.
        sleep(Duration::from_millis(600)).await;
        scene.proxy.pass();
        let longer = scene.ours.renew(&held, LONG).await.unwrap();
        scene.ours.release(&longer).await.unwrap();
        let another = scene.ours.acquire(&id(next), LONG).await.unwrap();
        let again = scene.ours.acquire(&id("z"), LONG).await.unwrap();
        sleep(LONG / 2).await;
        for hold in [&another, &again] {
            let kept = scene.ours.renew(hold, LONG).await;
            assert!(kept.is_ok(), "{next}: the resolution has ended it: {kept:?}");
        }
        let mut leases: Vec<_> =
            scene.admin.keys(&scene.namespace).await.iter().map(|key| key.lease).collect();
        leases.dedup();
        assert_eq!(leases.len(), 2, "{next}: two holds are on one lease");
        scene.ours.release(&another).await.unwrap();
        scene.ours.release(&again).await.unwrap();
    }
}
