//! A cluster of three nodes that serve slots.

use std::time::Duration;

use glock_redis::{Fault, Lock, LockError, LockExt, RedisLock, Retry, Waiting};
use glock_testing::process::eventually;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::support::{LONG, SOON, admin::Admin, cluster::Cluster, id};

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn locks_are_spread_over_a_cluster() {
    let cluster = Cluster::start().await;
    let (ours, theirs) = (cluster.lock(), cluster.lock());
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
async fn a_waiter_of_a_cluster_is_woken_and_does_not_poll() {
    let cluster = Cluster::start().await;
    let (ours, theirs) = (cluster.lock(), cluster.lock());
    assert_eq!(ours.capabilities().waiting, Waiting::Pushed);
    for (number, node) in cluster.admins.iter().enumerate() {
        let name = cluster.names_on(number, 1).await.remove(0);
        // The node learns the scripts.
        let lease = theirs.acquire(&id(&name), LONG).await.unwrap();
        theirs.release(&lease).await.unwrap();
        let lease = theirs.acquire(&id(&name), LONG).await.unwrap();
        let waiter = tokio::spawn({
            let (ours, name) = (ours.clone(), name.clone());
            async move { ours.acquire_with_retry(&name, LONG, Retry::FOREVER).await }
        });
        eventually("a subscription", SOON, async || node.channels().await == 1).await;
        // Long enough for many looks of a poller.
        let (before, since) = (scripts(node).await, Instant::now());
        sleep(Duration::from_secs(2)).await;
        let heartbeats = || since.elapsed().as_secs() + 2;
        let sent = scripts(node).await - before;
        assert!(sent <= heartbeats(), "{sent} scripts of a waiter");
        assert!(!waiter.is_finished(), "it does not wait");
        theirs.release(&lease).await.unwrap();
        let next = timeout(SOON, waiter).await.expect("not woken").unwrap().unwrap();
        let sent = scripts(node).await - before;
        assert!(sent <= heartbeats() + 2, "{sent} scripts, with the release and one claim");
        ours.release(&next).await.unwrap();
    }
}

/// How many scripts clients sent to a node.
async fn scripts(node: &Admin) -> u64 {
    let stats: String = node.ask("INFO commandstats").await;
    let calls = stats.lines().filter_map(|line| line.strip_prefix("cmdstat_eval"));
    let calls = calls.filter_map(|line| line.split_once("calls=")?.1.split(',').next());
    calls.map(|calls| calls.parse::<u64>().unwrap()).sum()
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_lost_node_takes_only_its_own_locks_with_it() {
    let mut cluster = Cluster::start().await;
    for node in &cluster.admins {
        let () = node.ask("CONFIG SET cluster-require-full-coverage no").await;
    }
    let lock = cluster.lock();
    let _known = lock.inspect(&id("x")).await.unwrap();
    cluster.nodes[2].stop();
    for node in 0..3 {
        for name in cluster.names_on(node, 4).await {
            let acquired = lock.acquire(&id(&name), LONG).await;
            if node < 2 {
                lock.release(&acquired.unwrap()).await.unwrap();
            } else {
                let fault = acquired.unwrap_err().fault();
                assert!(matches!(fault, Some(Fault::Unknown | Fault::Unavailable)), "{fault:?}");
            }
        }
    }
    // Without a primary for its slots, a wait for one of its locks goes on.
    let name = cluster.names_on(2, 1).await.remove(0);
    let patience = Duration::from_secs(2);
    let waited = lock.acquire_with_retry(&name, LONG, Retry::within(patience)).await;
    let passing = |fault| matches!(fault, Some(Fault::Unknown | Fault::Unavailable));
    let err = waited.unwrap_err();
    assert!(matches!(err, LockError::Timeout { .. }) || passing(err.fault()), "{err:?}");
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn a_frozen_node_is_left_for_its_replica() {
    let cluster = Cluster::start_with_replicas().await;
    for node in cluster.nodes.iter().chain(&cluster.replicas) {
        let () = node.admin().await.ask("CONFIG SET cluster-require-full-coverage no").await;
    }
    let replica = cluster.replicas[0].admin().await;
    let names = cluster.names_on(0, 3).await;
    let elsewhere = cluster.names_on(1, 1).await.remove(0);
    let ours = cluster.lock();
    let lease = ours.acquire(&id(&names[0]), LONG).await.unwrap();
    let key = cluster.admins[0].key(&names[0]);
    eventually("it is replicated", SOON, async || {
        let keys: Vec<String> = replica.ask("KEYS *").await;
        keys.contains(&key)
    })
    .await;
    let waiter = tokio::spawn({
        let (ours, name) = (ours.clone(), names[0].clone());
        async move { ours.acquire_with_retry(&name, LONG, Retry::FOREVER).await }
    });
    eventually("a subscription", SOON, async || cluster.admins[0].channels().await == 1).await;

    let began = Instant::now();
    cluster.nodes[0].freeze();
    let promoted = async || {
        let info: String = replica.ask("INFO replication").await;
        info.contains("role:master")
    };
    // What the other nodes serve goes on meanwhile.
    while !promoted().await {
        let lease = ours.acquire(&id(&elsewhere), LONG).await.unwrap();
        ours.release(&lease).await.unwrap();
        assert!(began.elapsed() < SOON, "no failover");
    }
    // Each call ends well, an existing client's as a new one's: at most an attempt is lost.
    let lease = ours.renew(&lease, LONG).await.unwrap();
    let new = cluster.lock();
    let taken = new.acquire(&id(&names[0]), LONG).await;
    assert!(matches!(taken, Err(LockError::Held { .. })), "{taken:?}");
    for (lock, name) in [(&ours, &names[1]), (&new, &names[2])] {
        let lease = lock.acquire(&id(name), LONG).await.unwrap();
        lock.release(&lease).await.unwrap();
    }
    ours.release(&lease).await.unwrap();
    let next = timeout(SOON, waiter).await.expect("the waiter was not woken").unwrap().unwrap();
    assert!(next.fence() > lease.fence());
    ours.release(&next).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn locks_stay_when_their_slot_moves() {
    let cluster = Cluster::start().await;
    let lock = cluster.lock();
    let name = cluster.names_on(0, 1).await.remove(0);
    let lease = lock.acquire(&id(&name), LONG).await.unwrap();
    let [from, to, _] = &cluster.admins[..] else { panic!("three nodes") };
    let (from_id, to_id): (String, String) =
        (from.ask("CLUSTER MYID").await, to.ask("CLUSTER MYID").await);
    let slot: u16 = from.ask_with("CLUSTER KEYSLOT", from.key(&name)).await;
    let () = to.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}")).await;
    let () = from.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}")).await;
    // Its keys are here, until they are moved: then the node refers to the other one.
    let lease = lock.renew(&lease, LONG).await.unwrap();
    for key in [from.key(&name), from.fence_key(&name)] {
        let port = cluster.nodes[1].port;
        let () = from.ask_with("MIGRATE", ("127.0.0.1", port, key, 0, 10_000)).await;
    }
    let lease = lock.renew(&lease, LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
    // A free lock waits until its slot has moved: the server cannot tell where its counter is.
    let err = lock.acquire(&id(&name), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
    for node in &cluster.admins {
        let () = node.ask(&format!("CLUSTER SETSLOT {slot} NODE {to_id}")).await;
    }
    let next = lock.acquire(&id(&name), LONG).await.unwrap();
    assert!(next.fence() > lease.fence());
    let next = lock.renew(&next, LONG).await.unwrap();
    let held = cluster.lock().acquire(&id(&name), LONG).await;
    assert!(matches!(held, Err(LockError::Held { .. })), "{held:?}");
    lock.release(&next).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the server's program: set GLOCK_REDIS_SERVER to its path"]
async fn many_tasks_share_one_connection_to_each_node() {
    let cluster = Cluster::start().await;
    let lock = cluster.lock();
    let mut tasks = JoinSet::new();
    for n in 0..60 {
        let lock = lock.clone();
        tasks.spawn(async move {
            let lease = lock.acquire(&id(&format!("x{n}")), LONG).await.unwrap();
            lock.release(&lease).await.unwrap();
        });
    }
    tasks.join_all().await;
    for node in &cluster.admins {
        eventually("the lock's connection and the test's", SOON, async || {
            let clients: String = node.ask("CLIENT LIST").await;
            clients.lines().count() == 2
        })
        .await;
    }
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
