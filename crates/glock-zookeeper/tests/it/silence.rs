//! A host, a connection or a runtime is silent, and the lock goes on by another one.

use std::{net::SocketAddr, sync::mpsc, thread, time::Duration};

use glock_testing::{Fixture, Networked, Proxy, fresh_namespace};
use glock_zookeeper::{LockExt, Retry, ZooKeeperLock};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    time::{Instant, sleep, timeout},
};

use crate::support::fixture::{ZooKeeper, connector};

const TTL: Duration = Duration::from_secs(6);
/// A driver gives a host two fifths of it, which is more than a call has.
const SESSION: Duration = Duration::from_secs(30);

/// Accepts connections and never replies.
async fn mute_host() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

fn lock(store: &ZooKeeper, cluster: String) -> ZooKeeperLock {
    let lock = ZooKeeperLock::new(connector(), cluster).with_config(store.config()).unwrap();
    lock.with_session_timeout(SESSION).unwrap()
}

/// Twelve clients: that each asks the silent host first has a probability of 1 in 4096.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_silent_host_does_not_fail_the_first_call() {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let (_listener, mute) = mute_host().await;
    for n in 0..12 {
        let lock = lock(&store, format!("{mute},{}", store.upstream()));
        let guard = lock.hold(format!("x{n}"), TTL, Retry::NEVER).await.unwrap();
        guard.release().await.unwrap();
    }
}

/// A firewall forgot a connection: it is silent, and new ones work.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_guard_outlives_a_connection_that_has_become_silent() {
    outlives(TTL, Proxy::mute).await;
}

/// The driver asks the silent host again, or the other one, by chance.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
async fn a_guard_outlives_a_host_that_has_become_silent() {
    outlives(TTL * 5 / 3, Proxy::stall).await;
}

/// Silences the connection in use, at several points of the time between two renewals.
async fn outlives(ttl: Duration, silence: fn(&Proxy)) {
    let store = ZooKeeper::open(fresh_namespace()).await;
    let proxies = [
        Proxy::start(store.upstream()).await.unwrap(),
        Proxy::start(store.upstream()).await.unwrap(),
    ];
    let lock = lock(&store, format!("{},{}", proxies[0].addr(), proxies[1].addr()));
    let guard = lock.hold("x", ttl, Retry::NEVER).await.unwrap();
    for round in 0..4 {
        sleep(ttl / 12 * round).await;
        let used = the_used_one(&proxies).await;
        silence(used);
        let lost = timeout(ttl * 3 / 2, guard.lost()).await;
        assert!(lost.is_err(), "round {round}: {lost:?}");
        used.pass();
    }
    guard.release().await.unwrap();
}

/// The proxy of the session's connection, once that is the only one.
async fn the_used_one(proxies: &[Proxy; 2]) -> &Proxy {
    let waiting = Instant::now();
    loop {
        match proxies.each_ref().map(Proxy::connections) {
            [1, 0] => return &proxies[0],
            [0, 1] => return &proxies[1],
            open => assert!(waiting.elapsed() < TTL * 10, "{open:?} connections"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// The first runtime computes for longer than the TTL, without an await.
#[test]
#[ignore = "needs a server: run `cargo xtask integration zookeeper`"]
fn a_guard_outlives_a_runtime_that_computes() {
    let main = Runtime::new().unwrap();
    let (store, ours) = main.block_on(async {
        let store = ZooKeeper::open(fresh_namespace()).await;
        let ours = store.client().await;
        (store, ours)
    });
    let first = Builder::new_current_thread().enable_all().build().unwrap();
    let (over, until_over) = mpsc::channel::<()>();
    let busy = {
        let ours = ours.clone();
        thread::spawn(move || {
            first.block_on(async move {
                ours.hold("first", TTL, Retry::NEVER).await.unwrap().release().await.unwrap();
                let _ = until_over.recv();
            });
        })
    };
    main.block_on(async {
        let waiting = Instant::now();
        while store.children("/").await.iter().all(|name| *name != store.namespace) {
            assert!(waiting.elapsed() < TTL, "the first runtime has not begun");
            sleep(Duration::from_millis(10)).await;
        }
        sleep(TTL / 12).await;
        let guard = ours.hold("x", TTL, Retry::NEVER).await.unwrap();
        let lost = timeout(TTL * 3 / 2, guard.lost()).await;
        assert!(lost.is_err(), "{lost:?}");
        guard.release().await.unwrap();
        drop(over);
    });
    busy.join().unwrap();
}
