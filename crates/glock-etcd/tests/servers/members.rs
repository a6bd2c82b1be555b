//! Members that are silent, and members that forget who has logged in.

use std::time::Duration;

use etcd_client::{Client, GetOptions};
use glock_core::{Lock, LockExt, Retry};
use glock_etcd::{EtcdLock, LockConfig, connect_options, etcd_client};
use glock_testing::fresh_namespace;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    access::{enable_auth, lock_of},
    support::{
        SOON, TTL,
        admin::{Admin, get, metric},
        cluster::Cluster,
        id, lock, queue, wait_for_x,
    },
};

const CALLS: usize = 30;

/// Pauses a member that does not lead.
async fn pause_one(cluster: &Cluster) -> usize {
    let member = (cluster.leader().await + 1) % 3;
    cluster.signal(member, "STOP");
    member
}

/// An eighth of it is what a call waits for one member: far longer than a busy machine takes to reply.
const LIMIT: Duration = Duration::from_secs(24);
const ATTEMPT: Duration = LIMIT.checked_div(8).unwrap();

fn patient(cluster: &Cluster, namespace: &str) -> EtcdLock {
    let config = LockConfig::default().with_namespace(namespace).with_call_timeout(LIMIT);
    EtcdLock::from_endpoints(cluster.endpoints(), connect_options()).with_config(config).unwrap()
}

/// A call loses at most one attempt to a silent member, and none once the client knows of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn no_call_fails_and_few_are_late_while_a_member_is_silent() {
    let cluster = Cluster::start().await;
    let ours = patient(&cluster, &fresh_namespace());
    let paused = pause_one(&cluster).await;
    let mut calls = JoinSet::new();
    for n in 0..CALLS {
        let ours = ours.clone();
        calls.spawn(async move {
            let since = Instant::now();
            let lease = ours.acquire(&id(&format!("x{n}")), TTL * 4).await?;
            let lease = ours.renew(&lease, TTL * 4).await?;
            ours.inspect(lease.id()).await.map(|_| since.elapsed())
        });
    }
    let first = calls.join_all().await;
    let mut later = Vec::new();
    for n in 0..CALLS {
        let since = Instant::now();
        let result = async {
            let lease = ours.acquire(&id(&format!("y{n}")), TTL).await?;
            ours.release(&lease).await
        };
        later.push(result.await.map(|()| since.elapsed()));
    }
    cluster.signal(paused, "CONT");
    assert!(first.iter().chain(&later).all(Result::is_ok), "{first:?} {later:?}");
    // Before the first loss was known, each of them may have had one.
    let lost = |calls: &[Result<Duration, _>], attempts| {
        calls
            .iter()
            .filter(|took| took.as_ref().is_ok_and(|took| *took >= ATTEMPT * attempts))
            .count()
    };
    assert_eq!(lost(&first, 2), 0, "a call lost two attempts: {first:?}");
    assert_eq!(
        lost(&later, 1),
        0,
        "a call lost an attempt to a member known to be silent: {later:?}"
    );
}

/// Logging in is hedged as all requests are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn clients_log_in_elsewhere_while_a_member_is_silent() {
    const CLIENTS: usize = 12;
    let cluster = Cluster::start().await;
    let namespace = fresh_namespace();
    enable_auth(&cluster, &namespace).await;
    let paused = pause_one(&cluster).await;
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let ours = lock_of(&cluster, "locker", "secret", &namespace);
        clients.spawn(async move {
            let lease = ours.acquire(&id(&format!("x{n}")), TTL).await?;
            ours.release(&lease).await
        });
    }
    let ended = clients.join_all().await;
    cluster.signal(paused, "CONT");
    assert!(ended.iter().all(Result::is_ok), "{ended:?}");
}

/// Their logins run out while the member is silent, and again after each pause between two renewals.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn guards_with_logins_that_run_out_outlive_a_silent_member() {
    const GUARDS: usize = 12;
    let cluster = Cluster::with_arguments(3, &["--auth-token-ttl", "3"]).await;
    let namespace = fresh_namespace();
    enable_auth(&cluster, &namespace).await;
    let mut guards = Vec::new();
    for n in 0..GUARDS {
        let lock = lock_of(&cluster, "locker", "secret", &namespace);
        let ttl = Duration::from_secs(6);
        guards.push(lock.hold(format!("guard {n}"), ttl, Retry::within(SOON)).await.unwrap());
    }
    let paused = pause_one(&cluster).await;
    sleep(Duration::from_secs(14)).await;
    let lost = guards.iter().filter(|guard| !guard.is_valid()).count();
    cluster.signal(paused, "CONT");
    assert_eq!(lost, 0, "guards that were lost");
    for guard in guards {
        guard.release().await.unwrap();
    }
}

/// A member that was silent receives requests again once it replies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_member_is_used_again_once_it_replies() {
    let cluster = Cluster::start().await;
    let ours = lock(&cluster.endpoints(), &fresh_namespace());
    let paused = pause_one(&cluster).await;
    let pair = async || {
        let lease = ours.acquire(&id("x"), TTL).await.unwrap();
        ours.release(&lease).await.unwrap();
    };
    for _ in 0..CALLS {
        pair().await;
    }
    cluster.signal(paused, "CONT");
    let endpoint = &cluster.endpoints()[paused..=paused];
    let received = async || {
        metric(endpoint, |line| {
            line.starts_with("grpc_server_started_total") && line.contains("\"Txn\"")
        })
        .await
    };
    let (since, before) = (Instant::now(), received().await);
    while received().await < before + 5.0 {
        assert!(since.elapsed() < Duration::from_mins(1), "it receives nothing");
        pair().await;
    }
}

/// Holds of the shortest TTL live on while a member is silent, and so does a waiter's key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn guards_and_waiters_outlive_a_silent_member() {
    let cluster = Cluster::start().await;
    let (namespace, admin) = (fresh_namespace(), Admin::connect(&cluster.endpoints()).await);
    // With a time limit this long, one attempt could take as long as the waiters' lease lives.
    let config =
        LockConfig::default().with_namespace(&namespace).with_call_timeout(Duration::from_secs(40));
    let lock = lock(&cluster.endpoints(), &namespace).with_config(config).unwrap();
    let mut guards = Vec::new();
    for n in 0..10 {
        let shortest = Duration::from_secs(2);
        guards.push(lock.hold(format!("guard {n}"), shortest, Retry::NEVER).await.unwrap());
    }
    let held = lock.hold("x", TTL, Retry::NEVER).await.unwrap();
    let waiter = wait_for_x(&lock);
    let waiting = queue(&admin, &namespace, 2).await.swap_remove(1);
    let paused = pause_one(&cluster).await;
    sleep(Duration::from_secs(12)).await;
    let lost = guards.iter().filter(|guard| !guard.is_valid()).count();
    cluster.signal(paused, "CONT");
    assert_eq!(lost, 0, "guards that were lost");
    assert_eq!(queue(&admin, &namespace, 2).await.swap_remove(1).secret, waiting.secret);
    held.release().await.unwrap();
    lock.release(&waiter.await.unwrap()).await.unwrap();
    for guard in guards {
        guard.release().await.unwrap();
    }
}

/// A stream of watches keeps the access token that it was opened with. A watch that is refused
/// for it is begun again on another stream, and so are those that were there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs three servers: run `cargo xtask integration etcd --native`"]
async fn a_watch_that_is_refused_for_an_old_login_is_begun_again() {
    let cluster = Cluster::start().await;
    let namespace = fresh_namespace();
    enable_auth(&cluster, &namespace).await;
    let ours = lock_of(&cluster, "locker", "secret", &namespace);
    let theirs = lock_of(&cluster, "locker", "secret", &namespace);
    let mut held = Vec::new();
    let mut waiters = Vec::new();
    for (n, name) in ["x", "y"].into_iter().enumerate() {
        held.push(theirs.acquire(&id(name), TTL * 2).await.unwrap());
        let ours = ours.clone();
        waiters.push(tokio::spawn(async move { ours.hold(name, TTL, Retry::within(TTL)).await }));
        while keys_of(&cluster, &namespace, name).await < 2
            || n == 0 && watched(&cluster).await == 0
        {
            sleep(Duration::from_millis(20)).await;
        }
        if n == 0 {
            // All clients of this user have to log in again.
            let root = connect_options().with_user("root", "secret");
            let root = Client::connect(cluster.endpoints(), Some(root)).await.unwrap();
            root.auth_client().user_change_password("locker", "secret").await.unwrap();
        }
    }
    for (held, waiter) in held.iter().zip(waiters).rev() {
        theirs.release(held).await.unwrap();
        let guard = timeout(SOON, waiter).await.expect("it missed the release").unwrap();
        guard.unwrap().release().await.unwrap();
    }
}

/// How many keys a lock has, read by a user who has logged in.
async fn keys_of(cluster: &Cluster, namespace: &str, name: &str) -> usize {
    let root = connect_options().with_user("root", "secret");
    let mut root = Client::connect(cluster.endpoints(), Some(root)).await.unwrap();
    let all = GetOptions::new().with_prefix();
    root.get(format!("{namespace}/{name}/"), Some(all)).await.unwrap().kvs().len()
}

/// How many keys are watched.
async fn watched(cluster: &Cluster) -> usize {
    let mut watched = 0;
    for endpoint in cluster.endpoints() {
        let metrics = get(&endpoint, "/metrics").await;
        let mut lines = metrics.lines();
        let count = lines.find_map(|line| line.strip_prefix("etcd_debugging_mvcc_watcher_total "));
        watched += count.unwrap().parse::<usize>().unwrap();
    }
    watched
}
