//! A request that reaches its member after the session has gone on at another one.

use std::time::Duration;

use glock_testing::{Fixture, Proxy, fresh_namespace};
use glock_zookeeper::{Lock, LockExt, LockId, Retry};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::{fixture::ZooKeeper, members::Cluster};

const TTL: Duration = Duration::from_mins(2);
const LATE: Duration = Duration::from_secs(1);

/// Each member in turn has an acquire on an old connection and does not know that the session has
/// moved: the acquire takes nothing after what was asked for in its stead was released.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs an ensemble: run `cargo xtask integration zookeeper`"]
async fn a_request_that_comes_late_to_another_member_takes_nothing() {
    let cluster = spawn_blocking(Cluster::start).await.unwrap();
    let (namespace, id) = (fresh_namespace(), LockId::new("x").unwrap());
    let store = ZooKeeper::at(cluster.addresses(), namespace.clone()).await;
    for member in 0..3 {
        let proxy = Proxy::start(cluster.address(member).parse().unwrap()).await.unwrap();
        let both = format!("{},{}", proxy.addr(), cluster.address((member + 1) % 3));
        let store_at_both =
            ZooKeeper { cluster: both, namespace: namespace.clone(), admin: store.admin.clone() };
        // Where a client connects first is chance.
        let ours = loop {
            let ours = store_at_both.client().await;
            ours.hold("warm", TTL, Retry::NEVER).await.unwrap().release().await.unwrap();
            if proxy.connections() > 0 {
                break ours;
            }
        };
        let cut_at = Instant::now();
        proxy.cut_and_deliver_late(LATE);
        proxy.refuse();
        let lease = ours.acquire(&id, TTL).await.unwrap();
        ours.release(&lease).await.unwrap();
        let released_at = Instant::now();
        assert!(released_at < cut_at + LATE, "it was not late");
        while released_at.elapsed() < LATE * 3 {
            assert_eq!(store.live().await, 0, "after {:?}", cut_at.elapsed());
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(store.residue().await, 0);
        ours.hold("x", TTL, Retry::NEVER).await.unwrap().release().await.unwrap();
    }
}
