//! A request that reaches its member after the session has gone on at another one.

use std::time::Duration;

use glock_testing::{Fixture, Proxy, fresh_namespace, process::eventually};
use glock_zookeeper::{Lock, LockExt, LockId, Retry};
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::support::{cluster::Cluster, fixture::ZooKeeper};

const TTL: Duration = Duration::from_mins(2);
/// Enough for what is done before, and less than a member keeps a silent connection. The client does
/// not look for the lost request in the second after it.
const LATE: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(20);
/// A ping, in bytes. No transaction is as short.
const PING: u64 = 12;

/// Whether a member has a connection of a session that has gone on at another one.
fn waits_for_more(cluster: &Cluster, member: usize) -> bool {
    let here = cluster.sessions_at(member);
    (0..3)
        .filter(|other| *other != member)
        .any(|other| !cluster.sessions_at(other).is_disjoint(&here))
}

/// Each member in turn has an acquire on an old connection and does not know that the session has
/// moved: the acquire takes nothing after the hold of its repeat was released.
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
        let said = proxy.bytes_up();
        let cut_at = Instant::now();
        proxy.cut_and_deliver_late(LATE);
        proxy.refuse();
        let lease = ours.acquire(&id, TTL).await.unwrap();
        ours.release(&lease).await.unwrap();
        assert!(!proxy.is_armed(), "nothing was cut");
        assert!(proxy.bytes_up() - said > PING, "a ping was cut");
        assert!(waits_for_more(&cluster, member), "the member has hung up before");
        assert!(cut_at.elapsed() < LATE, "it was not late");
        eventually("the member has got it, and hangs up", SOON, async || {
            assert_eq!(store.live().await, 0, "after {:?}", cut_at.elapsed());
            !waits_for_more(&cluster, member)
        })
        .await;
        let late_at = Instant::now();
        assert!(late_at > cut_at + LATE, "it hung up before");
        while late_at.elapsed() < Duration::from_secs(2) {
            assert_eq!(store.live().await, 0, "after {:?}", cut_at.elapsed());
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(store.residue().await, 0);
        ours.hold("x", TTL, Retry::NEVER).await.unwrap().release().await.unwrap();
    }
}
