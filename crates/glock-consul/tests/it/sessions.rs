//! How sessions are created, used again and ended.

use std::time::Duration;

use glock_consul::{ConsulClient, ConsulLock, Lease, Lock, LockConfig, LockError};
use glock_testing::{Proxy, process::eventually};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::support::{LONG, SLACK, Store, fake_server::FakeServer, id};

/// No health check ends a session; its keys are deleted with it, and can be locked again at once.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_session_is_bound_to_nothing_but_its_ttl() {
    let store = Store::open().await;
    let lock = store.lock();
    let lease = lock.acquire(&id("x"), Duration::from_millis(61_500)).await.unwrap();
    let sessions = store.sessions().await;
    assert_eq!(sessions.len(), 1);
    let info = store.admin.json("GET", &format!("session/info/{}", sessions[0]), "").await;
    let session = &info[0];
    assert_eq!(session["LockDelay"], 0);
    assert_eq!(session["Behavior"], "delete");
    assert_eq!(session["TTL"], "61500ms");
    for checks in ["NodeChecks", "ServiceChecks", "Checks"] {
        assert!(session[checks].as_array().is_none_or(Vec::is_empty), "{session}");
    }
    lock.release(&lease).await.unwrap();
}

/// Each held lock has a session of its own: losing one loses one lock.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn every_hold_has_a_session_of_its_own() {
    let store = Store::open().await;
    let lock = store.lock();
    let mut leases = Vec::new();
    for n in 0..5 {
        leases.push(lock.acquire(&id(&format!("x{n}")), LONG).await.unwrap());
    }
    let held = store.admin.held(&format!("{}/", store.namespace)).await;
    let mut sessions: Vec<_> = held.iter().map(|entry| entry["Session"].to_string()).collect();
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 5);
    for lease in leases {
        lock.release(&lease).await.unwrap();
    }
    eventually("one spare session is left", Duration::from_secs(10), async || {
        store.sessions().await.len() == 1
    })
    .await;
    drop(lock);
    eventually("none outlives its client", Duration::from_secs(5), async || {
        store.sessions().await.is_empty()
    })
    .await;
}

/// A session that is used again is a new owner: an old lease neither renews nor releases.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_session_that_is_used_again_does_not_revive_an_old_lease() {
    let store = Store::open().await;
    let (ours, theirs) = (store.lock(), store.lock());
    let old = ours.acquire(&id("x"), LONG).await.unwrap();
    let text = old.to_secret_text();
    ours.release(&old).await.unwrap();
    // The spare session lives, and holds nothing.
    let copy: Lease = text.parse().unwrap();
    for (who, lock) in [("its client", &ours), ("another", &theirs)] {
        let renewed = lock.renew(&copy, LONG).await;
        assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "{who}: {renewed:?}");
    }
    let new = ours.acquire(&id("x"), LONG).await.unwrap();
    let session = |lease: &Lease| lease.owner().reveal().split('.').next().unwrap().to_owned();
    assert_eq!(session(&old), session(&new), "it was to be used again");
    assert_ne!(old.owner(), new.owner());
    for (who, lock) in [("its client", &ours), ("another", &theirs)] {
        let renewed = lock.renew(&copy, LONG).await;
        assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "{who}: {renewed:?}");
        let released = lock.release(&copy).await;
        assert!(matches!(released, Err(LockError::NotHeld { .. })), "{who}: {released:?}");
    }
    assert_eq!(store.admin.owner(&store.key("x")).await.as_deref(), Some(new.owner().reveal()));
    ours.release(&new).await.unwrap();
}

/// Spare sessions that an operator destroyed cost another round trip, and no error.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_spare_session_that_is_gone_is_replaced() {
    let store = Store::open().await;
    let lock = store.lock();
    for _ in 0..3 {
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        lock.release(&lease).await.unwrap();
        for session in store.sessions().await {
            store.admin.ask("PUT", &format!("session/destroy/{session}"), "").await;
        }
    }
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    lock.release(&lease).await.unwrap();
}

/// The reply to the creation of a session is lost: the session is found by its name and destroyed.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_session_whose_id_was_lost_is_destroyed() {
    let store = Store::open().await;
    let proxy = Proxy::start(store.admin.addr).await.unwrap();
    let config = store.config().with_call_timeout(Duration::from_secs(1));
    let lock = store.admin.lock(store.admin.client(proxy.addr()), config);
    proxy.cut_after_request();
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    assert!(!proxy.is_armed());
    eventually("one session is left", SLACK * 5, async || store.sessions().await.len() == 1).await;
    lock.release(&lease).await.unwrap();

    // So is one whose caller has stopped waiting.
    proxy.drop_replies();
    let gone = timeout(SLACK, lock.acquire(&id("y"), LONG * 2)).await;
    assert!(gone.is_err());
    // Another one may have been requested, because the agent was silent.
    eventually("it was created, beside the spare one", SLACK * 5, async || {
        store.sessions().await.len() >= 2
    })
    .await;
    proxy.cut();
    proxy.pass();
    drop(lock);
    eventually("none is left", Duration::from_secs(20), async || store.sessions().await.is_empty())
        .await;
}

/// The request for a session arrives long after its connection broke: the session is found too.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_session_that_is_created_late_is_destroyed() {
    const LATE: Duration = Duration::from_secs(3);
    let store = Store::open().await;
    let proxy = Proxy::start(store.admin.addr).await.unwrap();
    let lock = store.admin.lock(store.admin.client(proxy.addr()), store.config());
    proxy.cut_and_deliver_late(LATE);
    let lease = lock.acquire(&id("x"), LONG).await.unwrap();
    assert!(!proxy.is_armed());
    let held = store.sessions().await;
    assert_eq!(held.len(), 1);
    eventually("it arrives", LATE * 2, async || proxy.counts().late == 1).await;
    eventually("one session is left", LATE * 2, async || store.sessions().await == held).await;
    lock.release(&lease).await.unwrap();
}

/// An agent hangs, and hundreds of requests for sessions get no reply: a few lists look for the sessions,
/// and not hundreds.
#[tokio::test]
async fn sessions_that_are_lost_together_are_looked_for_together() {
    let fake = FakeServer::start(|line| {
        let hangs = line.contains("session/create");
        (!hangs).then(|| (200, Some(7), "[]".into()))
    })
    .await;
    let client = ConsulClient::new(format!("http://{}", fake.addr)).unwrap();
    let config = LockConfig::default().with_call_timeout(SLACK / 2);
    let lock = ConsulLock::new(client).with_config(config).unwrap();
    let mut tries = JoinSet::new();
    for n in 0..200 {
        let lock = lock.clone();
        tries.spawn(async move { lock.acquire(&id(&format!("x{n}")), LONG).await.unwrap_err() });
    }
    tries.join_all().await;
    let lists = || fake.received().iter().filter(|line| line.contains("session/list")).count();
    let mut last = 0;
    // Until no list was requested for longer than most pauses between two.
    let over = async {
        while std::mem::replace(&mut last, lists()) != lists() || last == 0 {
            sleep(SLACK * 3).await;
        }
    };
    assert!(timeout(LONG, over).await.is_ok(), "they are not looked for, or without end");
    assert!(last <= 20, "{last} lists");
}

/// A process releases the hold of another process, and ends at once: no session is left by which the other
/// could believe that it still holds the lock.
#[test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
fn a_release_by_another_process_ends_the_session_too() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let ours = runtime();
    let (store, lock, lease) = ours.block_on(async {
        let store = Store::open().await;
        let lock = store.lock();
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        (store, lock, lease)
    });
    let copy: Lease = lease.to_secret_text().parse().unwrap();
    let theirs = runtime();
    theirs.block_on(async { store.lock().release(&copy).await.unwrap() });
    theirs.shutdown_background();
    ours.block_on(async {
        assert!(store.sessions().await.is_empty());
        let renewed = lock.renew(&lease, LONG).await;
        assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "{renewed:?}");
    });
}

/// A process transfers another process's hold to a session of its own, and ends before it has destroyed the
/// session that the hold was on: the other process destroys that, once it has seen the transfer.
#[test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
fn a_session_that_a_hold_has_left_is_ended_by_the_client_that_created_it() {
    let ours = tokio::runtime::Runtime::new().unwrap();
    let (store, lock, lease) = ours.block_on(async {
        let store = Store::open().await;
        let lock = store.lock();
        let lease = lock.acquire(&id("x"), LONG).await.unwrap();
        (store, lock, lease)
    });
    // Its background work does not begin: its only thread is here.
    let theirs = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let transferred =
        theirs.block_on(async { store.lock().renew(&lease, LONG * 2).await.unwrap() });
    drop(theirs);
    ours.block_on(async {
        assert_eq!(
            store.sessions().await.len(),
            2,
            "the other process was to end before it destroys one"
        );
        let renewed = lock.renew(&transferred, LONG).await.unwrap();
        let now = store.admin.session_of(&store.key("x")).await.unwrap();
        eventually("the session that has the key is left", Duration::from_secs(20), async || {
            store.sessions().await == [now.as_str()]
        })
        .await;
        lock.release(&renewed).await.unwrap();
    });
}
