//! What operators do behind a holder's back, and how soon its guard reports it.

use std::time::Duration;

use glock_consul::{ConsulLock, Lock, LockError, LockExt, LossReason, Retry};
use glock_core::toolkit::LockHooks;
use glock_testing::{Proxy, process::eventually};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{LONG, SLACK, Store, id};

/// Far less than a third of the TTL, when the next renewal would find out.
const SOON: Duration = Duration::from_secs(2);

async fn lost_soon(guard: &glock_consul::Guard, what: &str) {
    let since = Instant::now();
    let reason = timeout(SOON, guard.lost()).await;
    let reason = reason.unwrap_or_else(|_| panic!("{what}: not reported within {SOON:?}"));
    assert_eq!(reason, LossReason::TakenAway, "{what}");
    println!("{what}: reported after {:?}", since.elapsed());
}

/// The key is deleted, the session is destroyed, or another client takes the key between two queries: the
/// guard reports the loss at once.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_guard_reports_what_an_operator_did() {
    let store = Store::open().await;
    let (ours, theirs) = (store.lock(), store.lock());
    for is_watched in [false, true] {
        let pause = if is_watched { SLACK } else { Duration::ZERO };

        let guard = ours.hold("x", LONG, Retry::NEVER).await.unwrap();
        sleep(pause).await;
        store.admin.delete(&store.key("x")).await;
        lost_soon(&guard, "a deleted key").await;

        let guard = ours.hold("x", LONG, Retry::NEVER).await.unwrap();
        sleep(pause).await;
        let owner = store.admin.owner(&store.key("x")).await.unwrap();
        let session = owner.split('.').next().unwrap();
        store.admin.ask("PUT", &format!("session/destroy/{session}"), "").await;
        lost_soon(&guard, "a destroyed session").await;

        let guard = ours.hold("x", LONG, Retry::NEVER).await.unwrap();
        sleep(pause).await;
        store.admin.delete(&store.key("x")).await;
        let taken = theirs.acquire(&id("x"), LONG).await.unwrap();
        lost_soon(&guard, "a key that another has taken").await;
        theirs.release(&taken).await.unwrap();
    }
    // A hold that was taken away is not released: its session is ended all the same.
    eventually("at most a spare session a client is left", LONG, async || {
        store.sessions().await.len() <= 2
    })
    .await;
}

/// Renewals, transfers and other locks' traffic are no losses.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_guard_reports_no_loss_that_is_not_its_own() {
    let store = Store::open().await;
    let (ours, theirs) = (store.lock(), store.lock());
    let ttl = ours.capabilities().ttl_min;
    let guards = [
        ours.hold("x", ttl, Retry::NEVER).await.unwrap(),
        ours.hold("y", LONG, Retry::NEVER).await.unwrap(),
    ];
    let transferred = ours.acquire(&id("m"), LONG).await.unwrap();
    let (until, mut turns) = (Instant::now() + ttl * 3, 0);
    let traffic = async {
        while Instant::now() < until {
            let other = theirs.acquire(&id("z"), LONG).await.unwrap();
            theirs.release(&other).await.unwrap();
            turns += 1;
            drop(theirs.renew(&transferred, LONG + Duration::from_secs(turns)).await.unwrap());
            assert!(guards.iter().all(glock_consul::Guard::is_valid));
        }
    };
    tokio::select! {
        () = traffic => {}
        () = ours.ended(&transferred).unwrap() => panic!("it was only transferred"),
    }
    ours.release(&transferred).await.unwrap();
    for guard in guards {
        guard.release().await.unwrap();
    }
}

/// Guards in a busy namespace list it a few times a second, not for each change, their own client's too.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_busy_namespace_does_not_keep_holders_busy() {
    let store = Store::open().await;
    let proxy = Proxy::start(store.admin.addr).await.unwrap();
    let ours: ConsulLock = store.admin.lock(store.admin.client(proxy.addr()), store.config());
    let guards = [
        ours.hold("x", LONG, Retry::NEVER).await.unwrap(),
        ours.hold("y", LONG, Retry::NEVER).await.unwrap(),
    ];
    sleep(SLACK).await;
    let (before, theirs) = (proxy.requests(), store.lock());
    let until = Instant::now() + Duration::from_secs(3);
    let mut changes = 0;
    while Instant::now() < until {
        let other = theirs.acquire(&id("z"), LONG).await.unwrap();
        theirs.release(&other).await.unwrap();
        changes += 2;
    }
    let sent = proxy.requests() - before;
    assert!(sent <= 15, "{sent} requests for {changes} changes in three seconds");
    let (before, until, mut own) = (proxy.requests(), Instant::now() + Duration::from_secs(3), 0);
    while Instant::now() < until {
        let guard = ours.hold("z", LONG, Retry::NEVER).await.unwrap();
        guard.release().await.unwrap();
        own += 2;
    }
    let sent = proxy.requests() - before;
    assert!(sent <= own + 20, "{sent} requests for {own} of its own in three seconds");
    for guard in guards {
        guard.release().await.unwrap();
    }
}

/// Another program's session asked for a delay before its keys can be locked again: held until then,
/// and the agent is not hammered meanwhile.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn another_program_s_lock_delay_is_respected() {
    let store = Store::open().await;
    let wanted = r#"{"TTL": "60s", "LockDelay": "2s", "Behavior": "delete"}"#;
    let made = store.admin.json("PUT", "session/create", wanted).await;
    let session = made["ID"].as_str().unwrap();
    let key = store.key("x");
    let (status, locked) =
        store.admin.ask("PUT", &format!("kv/{key}?acquire={session}"), "?").await;
    assert_eq!((status, locked.trim()), (200, "true"));
    let proxy = Proxy::start(store.admin.addr).await.unwrap();
    let ours = store.admin.lock(store.admin.client(proxy.addr()), store.config());
    assert_eq!(ours.inspect(&id("x")).await.unwrap().unwrap().label, "", "a stranger's value");
    assert!(matches!(ours.acquire(&id("x"), LONG).await, Err(LockError::Held { .. })));
    store.admin.ask("PUT", &format!("session/destroy/{session}"), "").await;
    let since = Instant::now();
    assert!(matches!(ours.acquire(&id("x"), LONG).await, Err(LockError::Held { .. })));
    let lease = ours.acquire_with_retry("x", LONG, Retry::within(LONG)).await.unwrap();
    let after = since.elapsed();
    assert!(after > SOON / 2, "after {after:?}");
    assert!(proxy.requests() < 150, "{} requests in two seconds", proxy.requests());
    ours.release(&lease).await.unwrap();
}
