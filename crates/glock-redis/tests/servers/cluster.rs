//! A cluster of three nodes.

use std::time::Duration;

use glock_redis::{
    Fault, Lock, LockError, LockExt, RedisLock, Retry, Waiting, redis::cluster::ClusterClient,
};
use tokio::time::{Instant, sleep};

use crate::{
    program::Private,
    support::{LONG, SLACK, Server, eventually, id},
};

const SLOTS: [(u16, u16); 3] = [(0, 5460), (5461, 10922), (10923, 16383)];

struct Cluster {
    nodes: Vec<Private>,
    admins: Vec<Server>,
}

impl Cluster {
    async fn start() -> Self {
        let (mut nodes, mut admins, mut buses) = (Vec::new(), Vec::<Server>::new(), Vec::new());
        for (first, last) in SLOTS {
            let (node, bus) = Private::node(&["--cluster-node-timeout", "1000"]).await;
            let admin = Server::at(node.client()).await;
            let () = admin.ask(&format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await;
            nodes.push(node);
            admins.push(admin);
            buses.push(bus);
        }
        for (node, bus) in nodes.iter().zip(buses).skip(1) {
            let () = admins[0].ask(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port)).await;
        }
        for admin in &admins {
            eventually("the cluster is whole", async || {
                let info: String = admin.ask("CLUSTER INFO").await;
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
            .await;
        }
        Self { nodes, admins }
    }

    fn lock(&self) -> RedisLock {
        let client = ClusterClient::new(self.nodes.iter().map(Private::url)).unwrap();
        RedisLock::cluster(client).with_config(self.admins[0].config()).unwrap()
    }
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn locks_are_spread_over_a_cluster() {
    let cluster = Cluster::start().await;
    let (ours, theirs) = (cluster.lock(), cluster.lock());
    assert_eq!(ours.capabilities().waiting, Waiting::Polled);
    let mut leases = Vec::new();
    for n in 0..60 {
        leases.push(ours.acquire(&id(&format!("x{n}")), LONG).await.unwrap());
    }
    for admin in &cluster.admins {
        let size: usize = admin.ask("DBSIZE").await;
        assert!(size > 20, "{size} of 120 keys");
    }
    for lease in leases {
        let refused = theirs.acquire(lease.id(), LONG).await;
        assert!(matches!(refused, Err(LockError::Held { holder: Some(_), .. })), "{refused:?}");
        let lease = ours.renew(&lease, LONG).await.unwrap();
        ours.release(&lease).await.unwrap();
        let next = theirs.acquire(lease.id(), LONG).await.unwrap();
        assert!(next.fence() > lease.fence());
        theirs.release(&next).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_waiter_of_a_cluster_polls_or_is_woken() {
    let cluster = Cluster::start().await;
    let theirs = cluster.lock();
    let woken = cluster.lock().with_subscriber(cluster.nodes[1].client());
    assert_eq!(woken.capabilities().waiting, Waiting::Pushed);
    for (ours, latest) in [(cluster.lock(), SLACK * 2), (woken, SLACK / 6)] {
        let mut total = Duration::ZERO;
        for n in 0..6 {
            // On each node, while the subscription is at one of them.
            let lease = theirs.acquire(&id(&format!("x{n}")), LONG).await.unwrap();
            let waiter = tokio::spawn({
                let (ours, name) = (ours.clone(), lease.id().clone());
                async move {
                    let lease = ours.acquire_with_retry(&name, LONG, Retry::FOREVER).await.unwrap();
                    (Instant::now(), lease)
                }
            });
            sleep(Duration::from_millis(300)).await;
            let released_at = Instant::now();
            theirs.release(&lease).await.unwrap();
            let (granted_at, lease) = waiter.await.unwrap();
            total += granted_at - released_at;
            ours.release(&lease).await.unwrap();
        }
        assert!(total / 6 < latest, "{total:?} for six");
    }
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_lost_node_takes_only_its_own_locks_along() {
    let mut cluster = Cluster::start().await;
    for admin in &cluster.admins {
        let () = admin.ask("CONFIG SET cluster-require-full-coverage no").await;
    }
    let config = cluster.admins[0].config().with_call_timeout(Duration::from_secs(2));
    let lock = cluster.lock().with_config(config).unwrap();
    let mut lost = 0;
    cluster.nodes[2].stop();
    for n in 0..12 {
        let since = Instant::now();
        let acquired = lock.acquire(&id(&format!("x{n}")), LONG).await;
        assert!(since.elapsed() < Duration::from_secs(2) + SLACK, "{:?}", since.elapsed());
        match acquired {
            Ok(lease) => lock.release(&lease).await.unwrap(),
            Err(err) => {
                let fault = err.fault();
                assert!(matches!(fault, Some(Fault::Unknown | Fault::Unavailable)), "{err:?}");
                lost += 1;
            }
        }
    }
    assert!((1..12).contains(&lost), "{lost} of 12 locks were on the lost node");
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_plain_client_of_a_cluster_is_told_that_it_will_not_work() {
    let cluster = Cluster::start().await;
    let lock = RedisLock::new(cluster.nodes[0].client());
    let mut moved = 0;
    for n in 0..12 {
        if let Err(err) = lock.acquire(&id(&format!("x{n}")), LONG).await {
            assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
            moved += 1;
        }
    }
    assert!(moved > 0);
}
