//! A cluster of three nodes.

use std::time::Duration;

use glock_redis::{Fault, Lock, LockError, RedisLock, Waiting};
use glock_testing::process::eventually;
use tokio::time::timeout;

use crate::support::{LONG, SOON, cluster::Cluster, id};

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
    for ours in [cluster.lock(), woken] {
        // On each node, while the subscription is at one of them.
        for n in 0..6 {
            let lease = theirs.acquire(&id(&format!("x{n}")), LONG).await.unwrap();
            let waiter = tokio::spawn({
                let (ours, name) = (ours.clone(), lease.id().clone());
                async move { ours.wait(&name, LONG).await }
            });
            if ours.capabilities().waiting == Waiting::Pushed {
                let key = cluster.admins[1].key(lease.id().as_str());
                eventually("a subscription", SOON, async || {
                    let channels: Vec<String> =
                        cluster.admins[1].ask_with("PUBSUB CHANNELS", "*").await;
                    channels.contains(&key)
                })
                .await;
            }
            theirs.release(&lease).await.unwrap();
            timeout(SOON, waiter).await.expect("not woken").unwrap().unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_lost_node_takes_only_its_own_locks_with_it() {
    let mut cluster = Cluster::start().await;
    for admin in &cluster.admins {
        let () = admin.ask("CONFIG SET cluster-require-full-coverage no").await;
    }
    let config = cluster.admins[0].config().with_call_timeout(Duration::from_secs(1));
    let lock = cluster.lock().with_config(config).unwrap();
    let mut lost = 0;
    cluster.nodes[2].stop();
    for n in 0..12 {
        let acquired = timeout(SOON, lock.acquire(&id(&format!("x{n}")), LONG)).await;
        match acquired.expect("longer than the call's time limit") {
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
async fn a_plain_client_of_a_cluster_is_rejected() {
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
