//! Members that are killed, that stand still, and that lose their majority.

use std::time::Duration;

use glock_hazelcast::{
    Fault, HazelcastClient, HazelcastFencedLock, HazelcastLock, Lock, LockConfig, LockExt, LockId,
    Retry,
};
use glock_testing::fresh_namespace;
use tokio::time::{Instant, sleep};

use crate::{
    storm::{assert_sound, contend},
    support::{
        cluster::{Cluster, Kind},
        fixture::{SESSION_TTL, addresses},
    },
};

const RUN: Duration = Duration::from_secs(16);
const LONG_RUN: Duration = Duration::from_mins(1);

/// Starting three members takes its time, and blocks.
async fn cluster(kind: Kind) -> Cluster {
    tokio::task::spawn_blocking(move || Cluster::start(kind)).await.unwrap()
}

/// A client whose addresses begin with another member each.
fn client(cluster: &Cluster, n: usize) -> HazelcastClient {
    let mut addresses = addresses(&cluster.addresses());
    addresses.rotate_left(n % 3);
    HazelcastClient::new(addresses).unwrap()
}

fn config(namespace: &str) -> LockConfig {
    LockConfig::default().with_namespace(namespace)
}

fn fenced(cluster: &Cluster, n: usize, namespace: &str) -> HazelcastFencedLock {
    let lock = HazelcastFencedLock::new(client(cluster, n)).with_config(config(namespace)).unwrap();
    lock.with_session_ttl(SESSION_TTL).unwrap()
}

fn map(cluster: &Cluster, n: usize, namespace: &str) -> HazelcastLock {
    HazelcastLock::new(client(cluster, n)).with_config(config(namespace)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: 60 s of contention on three members"]
async fn no_two_hold_a_fenced_lock_while_a_member_is_killed() {
    let mut cluster = cluster(Kind::Cp).await;
    let namespace = fresh_namespace();
    let locks: Vec<_> = (0..4).map(|n| fenced(&cluster, n, &namespace)).collect();
    let killer = async {
        sleep(LONG_RUN / 4).await;
        let leader = cluster.leader();
        cluster.kill(leader);
    };
    let (holds, ()) = tokio::join!(contend(|n| locks[n].clone(), LONG_RUN), killer);
    let pause = assert_sound(holds, 50);
    assert!(pause < LONG_RUN / 2, "the lock did not come back: {pause:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: 60 s of contention on three members"]
async fn no_two_hold_a_fenced_lock_while_a_member_stands_still() {
    let cluster = cluster(Kind::Cp).await;
    let namespace = fresh_namespace();
    let locks: Vec<_> = (0..4).map(|n| fenced(&cluster, n, &namespace)).collect();
    let freezer = async {
        sleep(LONG_RUN / 4).await;
        let leader = cluster.leader();
        cluster.signal(leader, "STOP");
        sleep(LONG_RUN / 4).await;
        cluster.signal(leader, "CONT");
    };
    let (holds, ()) = tokio::join!(contend(|n| locks[n].clone(), LONG_RUN), freezer);
    assert_sound(holds, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a cluster: run `cargo xtask integration hazelcast --native`"]
async fn locks_of_the_map_outlive_a_member_that_is_killed() {
    let mut cluster = cluster(Kind::MapsOnly).await;
    let namespace = fresh_namespace();
    let locks: Vec<_> = (0..4).map(|n| map(&cluster, n, &namespace)).collect();
    let guard = locks[0].hold("kept", RUN * 2, Retry::NEVER).await.unwrap();
    let killer = async {
        sleep(RUN / 4).await;
        cluster.kill(1);
        sleep(RUN / 4).await;
        cluster.restart(1);
    };
    let (holds, ()) = tokio::join!(contend(|n| locks[n].clone(), RUN), killer);
    assert_sound(holds, 20);
    assert!(guard.is_valid(), "two connections, to two members, keep a client's locks");
    guard.release().await.unwrap();
}

/// Without a majority nothing is granted, and every call ends in its time.
#[tokio::test]
#[ignore = "needs a cluster: run `cargo xtask integration hazelcast --native`"]
async fn a_fenced_lock_without_a_majority_is_an_error_in_time() {
    let mut cluster = cluster(Kind::Cp).await;
    let limit = Duration::from_secs(2);
    let config = config(&fresh_namespace()).with_call_timeout(limit);
    let lock = fenced(&cluster, 0, "x").with_config(config).unwrap();
    let lock = lock.with_session_ttl(SESSION_TTL).unwrap();
    let id = LockId::new("x").unwrap();
    let lease = lock.acquire(&id, RUN).await.unwrap();
    cluster.kill(1);
    cluster.kill(2);
    for _ in 0..3 {
        let began = Instant::now();
        let err = lock.acquire(&LockId::new("y").unwrap(), RUN).await.unwrap_err();
        assert!(matches!(err.fault(), Some(Fault::Unknown | Fault::Unavailable)), "{err:?}");
        assert!(began.elapsed() < limit * 3, "{:?}", began.elapsed());
    }
    assert!(lock.renew(&lease, RUN).await.is_err());
    sleep(SESSION_TTL).await;
    assert!(lease.is_expired(), "its session may be over");
}

/// All members are new, and know nothing of what the old ones had.
#[tokio::test]
#[ignore = "needs a cluster: run `cargo xtask integration hazelcast --native`"]
async fn another_cluster_at_the_same_addresses_has_none_of_the_locks() {
    let mut cluster = cluster(Kind::MapsOnly).await;
    let namespace = fresh_namespace();
    let (lock, other) = (map(&cluster, 0, &namespace), map(&cluster, 1, &namespace));
    let ttl = Duration::from_mins(1);
    let guard = lock.hold("x", ttl, Retry::NEVER).await.unwrap();
    for member in 0..3 {
        cluster.kill(member);
    }
    let lost = tokio::time::timeout(Duration::from_secs(10), guard.lost()).await;
    lost.expect("the loss is reported long before the TTL");
    for member in 0..3 {
        cluster.restart(member);
    }
    let next = other.hold("x", ttl, Retry::within(ttl)).await.unwrap();
    assert!(next.fence() > guard.fence(), "{} after {}", next.fence(), guard.fence());
    drop(guard);
    sleep(Duration::from_secs(2)).await;
    assert!(next.is_valid());
    next.release().await.unwrap();
}
