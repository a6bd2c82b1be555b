//! The blocking query: indexes that go back, what wakes a waiter and what does not.

use std::time::Duration;

use glock_consul::{ConsulClient, ConsulLock, Fault, Lock, LockConfig, LockExt, Retry};
use glock_testing::{Proxy, process::eventually};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{LONG, SLACK, Store, asleep_on, fake_server::FakeServer, id};

const HELD: &str = r#"[{"Key":"ns/x","Session":"008f85bf-2ece-1234-76e4-744f25601f0a","ModifyIndex":7,"Value":null}]"#;

fn lock_at(fake: &FakeServer) -> ConsulLock {
    let client = ConsulClient::new(format!("http://{}", fake.addr)).unwrap();
    ConsulLock::new(client).with_config(LockConfig::default().with_namespace("ns")).unwrap()
}

/// A restored snapshot sets the index back: the next query does not block on the old one.
#[tokio::test]
async fn an_index_that_goes_back_starts_again() {
    let mut queries = 0;
    let fake = FakeServer::start(move |line| {
        if !line.contains("recurse") {
            return Some((200, Some(7), HELD.into()));
        }
        queries += 1;
        match queries {
            1 => Some((200, Some(900), HELD.into())),
            // Restored: all indexes are lower than before.
            2 | 3 => Some((200, Some(7), HELD.into())),
            _ => Some((404, Some(8), String::new())),
        }
    })
    .await;
    let woken = timeout(LONG, lock_at(&fake).wait(&id("x"), LONG)).await;
    woken.expect("the release was missed").unwrap();
    let queries: Vec<_> =
        fake.received().into_iter().filter(|line| line.contains("recurse")).collect();
    assert!(queries[0].contains("/v1/kv/ns/x?recurse "), "{}", queries[0]);
    assert!(queries[1].contains("index=900&wait=5000ms"), "{}", queries[1]);
    assert!(!queries[2].contains("index="), "{}", queries[2]);
    assert!(queries[3].contains("index=7"), "{}", queries[3]);
}

/// An agent that does not block, or replies nonsense, is not hammered.
#[tokio::test]
async fn an_agent_that_does_not_block_is_not_hammered() {
    for reply in [(200, Some(7), HELD), (200, None, "<html>"), (500, None, "No cluster leader")] {
        let fake = FakeServer::start(move |line| {
            let (status, index, body) =
                if line.contains("recurse") { reply } else { (200, Some(7), HELD) };
            Some((status, index, body.into()))
        })
        .await;
        let lock = lock_at(&fake);
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            let left = until - Instant::now();
            // The retry loop pauses as well.
            let _ = lock.wait(&id("x"), left).await;
            sleep(Duration::from_millis(20)).await;
        }
        let queries = fake.received().iter().filter(|line| line.contains("recurse")).count();
        assert!(queries < 40, "{queries} queries in two seconds for {reply:?}");
    }
}

/// An agent behind a gateway that refuses requests that block is not hammered.
#[tokio::test]
async fn a_gateway_that_does_not_let_queries_block_is_not_hammered() {
    let fake = FakeServer::start(move |line| {
        let blocks = line.contains("index=");
        let (status, body) = if blocks { (504, "") } else { (200, HELD) };
        Some((status, Some(7), body.into()))
    })
    .await;
    let lock = lock_at(&fake);
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        let _ = lock.wait(&id("x"), until - Instant::now()).await;
        sleep(Duration::from_millis(20)).await;
    }
    let queries = fake.received().iter().filter(|line| line.contains("recurse")).count();
    assert!(queries < 60, "{queries} queries in two seconds");
}

/// A lock is shared by two runtimes, and the one that its first waiter was on ends.
#[test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
fn a_waiter_of_another_runtime_is_woken_once_the_first_ended() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (first, second) = (runtime(), runtime());
    let (ours, theirs, [lease, other]) = second.block_on(async {
        let store = Store::open().await;
        let (ours, theirs) = (store.lock(), store.lock());
        let take = async |name| theirs.acquire(&id(name), LONG).await.unwrap();
        let leases = [take("x").await, take("y").await];
        (ours, theirs, leases)
    });
    let waits = |name| {
        let lock = ours.clone();
        async move { lock.wait(&id(name), LONG).await }
    };
    // Polled here, so that the query begins on this runtime.
    let mut of_first = Box::pin(waits("y"));
    first.block_on(async {
        tokio::select! {
            biased;
            woken = &mut of_first => panic!("woken without a release: {woken:?}"),
            () = eventually("the query has begun", LONG, async || {
                format!("{ours:?}").contains("has_begun: true")
            }) => {}
        }
    });
    first.spawn(of_first);
    let waiter = second.spawn(waits("x"));
    second.block_on(asleep_on(2, &ours));
    first.shutdown_timeout(Duration::from_secs(1));
    second.block_on(async {
        // Woken early: it looks, and waits again.
        timeout(LONG / 2, waiter).await.expect("not woken").unwrap().unwrap();
        let waiter = tokio::spawn(waits("x"));
        sleep(SLACK).await;
        assert!(!waiter.is_finished());
        theirs.release(&other).await.unwrap();
        theirs.release(&lease).await.unwrap();
        timeout(LONG / 2, waiter).await.expect("not woken").unwrap().unwrap();
    });
}

/// A query without a reply is given up before a lease of the shortest TTL can end.
#[tokio::test]
async fn a_query_that_hangs_is_given_up() {
    let mut queries = 0;
    let fake = FakeServer::start(move |line| {
        if !line.contains("recurse") {
            return Some((200, Some(7), HELD.into()));
        }
        queries += 1;
        match queries {
            1 => Some((200, Some(7), HELD.into())),
            2 => None,
            _ => Some((404, Some(8), String::new())),
        }
    })
    .await;
    let since = Instant::now();
    lock_at(&fake).wait(&id("x"), LONG).await.unwrap();
    assert!(since.elapsed() < Duration::from_secs(9), "{:?}", since.elapsed());
}

/// Queries that fail wake the waiters, which then read the key themselves. A waiter that is just reading it
/// returns the error of its own read.
#[tokio::test]
async fn a_waiter_returns_the_error_of_its_own_read() {
    let slow = |line: &str| if line.contains("consistent") { SLACK } else { Duration::ZERO };
    let fake = FakeServer::slow(slow, |_| Some((403, None, "Permission denied".into()))).await;
    let err = lock_at(&fake).wait(&id("x"), LONG).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
}

/// What is not Consul is said to be none.
#[tokio::test]
async fn another_server_is_refused() {
    for (status, body) in [(404, "404 page not found\n"), (200, "<html>"), (200, "{}"), (400, "")] {
        let fake = FakeServer::start(move |_| Some((status, None, body.into()))).await;
        let lock = lock_at(&fake);
        let err = lock.acquire(&id("x"), LONG).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Rejected), "{status} {body}: {err:?}");
        let err = lock.inspect(&id("x")).await.unwrap_err();
        assert_eq!(err.fault(), Some(Fault::Rejected), "{status} {body}: {err:?}");
    }
}

/// Returns once a waiter has gone to sleep: no requests are sent any more.
async fn asleep(proxy: &Proxy) {
    let mut before = 0;
    while std::mem::replace(&mut before, proxy.requests()) != proxy.requests() || before < 3 {
        sleep(SLACK / 2).await;
    }
}

/// Waiting for a second lock widens the query, and both are woken; a waiter on one key alone is not
/// disturbed by others.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn one_query_serves_waiters_of_several_locks() {
    let store = Store::open().await;
    let proxy = Proxy::start(store.admin.addr).await.unwrap();
    let ours = store.admin.lock(store.admin.client(proxy.addr()), store.config());
    let theirs = store.lock();
    let (one, two) = (
        theirs.acquire(&id("a"), LONG).await.unwrap(),
        theirs.acquire(&id("b"), LONG).await.unwrap(),
    );
    let wait = |name: &'static str| {
        let ours = ours.clone();
        tokio::spawn(async move {
            let lease = ours.acquire_with_retry(name, LONG, Retry::within(LONG)).await.unwrap();
            (Instant::now(), ours.release(&lease).await.unwrap())
        })
    };
    let first = wait("a");
    asleep(&proxy).await;
    // Only its own key is watched so far.
    let (before, since) = (proxy.requests(), Instant::now());
    for _ in 0..20 {
        let other = theirs.acquire(&id("c"), LONG).await.unwrap();
        theirs.release(&other).await.unwrap();
    }
    // The query is sent again every two seconds, and the session of the refused attempt is destroyed.
    let (sent, most) = (proxy.requests() - before, since.elapsed().as_secs() / 2 + 2);
    assert!(sent <= most, "woken by a lock that is not awaited: {sent} requests");
    let second = wait("b");
    asleep(&proxy).await;
    assert!(proxy.connections() <= 3, "{} connections", proxy.connections());
    let released_at = Instant::now();
    theirs.release(&two).await.unwrap();
    theirs.release(&one).await.unwrap();
    for waiter in [first, second] {
        let (granted_at, ()) = timeout(LONG, waiter).await.unwrap().unwrap();
        assert!(granted_at - released_at < SLACK * 2, "woken after {:?}", granted_at - released_at);
    }
}

/// Locks that share a client do not wait for each other's queries.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn locks_of_one_client_are_woken_side_by_side() {
    let store = Store::open().await;
    let client = store.admin.client(store.admin.addr).build().unwrap();
    let lock = |namespace: &str| {
        let config = store.config().with_namespace(format!("{}{namespace}", store.namespace));
        let lock = ConsulLock::new(client.clone()).with_config(config).unwrap();
        lock.with_session_ttl_min(store.admin.ttl_min).unwrap()
    };
    let (one, other) = (lock("one"), lock("other"));
    let guard = one.hold("x", LONG, Retry::NEVER).await.unwrap();
    // Its query blocks by then.
    sleep(Duration::from_secs(1)).await;
    for _ in 0..3 {
        let held = other.acquire(&id("x"), LONG).await.unwrap();
        let theirs = lock("other");
        let waiter = tokio::spawn(async move { theirs.hold("x", LONG, Retry::within(LONG)).await });
        sleep(Duration::from_secs(1)).await;
        other.release(&held).await.unwrap();
        let next = timeout(SLACK, waiter).await.expect("not woken").unwrap().unwrap();
        next.release().await.unwrap();
    }
    guard.release().await.unwrap();
}
