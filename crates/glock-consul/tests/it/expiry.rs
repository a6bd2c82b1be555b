//! TTLs: Consul's own limits, and how late it ends a session. These tests take as long as they say.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_consul::{ConsulLock, Fault, Invalid, Lock, LockConfig, LockError, LockExt, Retry};
use glock_testing::process::eventually;
use tokio::time::{Instant, sleep_until};

use crate::support::{LONG, Store, fake_server::FakeServer, id};

const TEN: Duration = Duration::from_secs(10);

/// By default, a lock offers the TTLs that Consul's servers allow by default.
#[test]
fn the_default_limits_are_consul_s() {
    let client = glock_consul::ConsulClient::new("http://127.0.0.1:8500").unwrap();
    let capabilities = ConsulLock::new(client.clone()).capabilities();
    assert_eq!(capabilities.ttl_min, TEN);
    assert_eq!(capabilities.ttl_max, Duration::from_hours(24));
    assert_eq!(capabilities.expiry_latest(TEN), TEN * 2);
    for bad in [Duration::ZERO, Duration::from_hours(25)] {
        assert!(ConsulLock::new(client.clone()).with_session_ttl_min(bad).is_err());
    }
    let bad = LockConfig::default().with_namespace("a/b");
    assert!(ConsulLock::new(client).with_config(bad).is_err());
}

/// The real thing: a lease of ten seconds holds for ten, and is free after twenty.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_lease_of_ten_seconds_ends_between_ten_and_twenty() {
    let store = Store::open().await;
    let ours = store.lock().with_session_ttl_min(TEN).unwrap();
    let too_short = ours.acquire(&id("x"), TEN.saturating_sub(Duration::from_nanos(1))).await;
    assert!(matches!(too_short, Err(LockError::Invalid(Invalid { what: "ttl", .. }))));
    let sent = Instant::now();
    let lease = ours.acquire(&id("x"), TEN).await.unwrap();
    assert!(lease.remaining() > Duration::from_secs(9));
    let theirs = store.lock();
    let waiter = tokio::spawn(async move {
        let lease = theirs.acquire_with_retry("x", TEN, Retry::within(LONG)).await.unwrap();
        (Instant::now(), lease, theirs)
    });
    sleep_until(lease.deadline()).await;
    assert!(!waiter.is_finished(), "it passed on before its deadline");
    let (granted_at, next, theirs) = waiter.await.unwrap();
    let after = granted_at - sent;
    // The servers take at most twenty; the rest is for a busy machine.
    assert!(after >= TEN && after <= TEN * 3, "it passed on after {after:?}");
    assert!(next.fence() > lease.fence());
    assert!(matches!(ours.renew(&lease, TEN).await, Err(LockError::NotHeld { .. })));
    theirs.release(&next).await.unwrap();
}

/// A guard of ten seconds outlives two of them.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_guard_of_ten_seconds_keeps_its_lock() {
    let store = Store::open().await;
    let ours = store.lock().with_session_ttl_min(TEN).unwrap();
    let guard = ours.hold("x", TEN, Retry::NEVER).await.unwrap();
    // Without renewals its session would have ended by then.
    tokio::time::sleep(TEN * 21 / 10).await;
    assert!(guard.is_valid() && guard.remaining() > TEN / 2);
    assert!(matches!(store.lock().acquire(&id("x"), TEN).await, Err(LockError::Held { .. })));
    guard.release().await.unwrap();
}

/// Servers whose `session_ttl_min` is longer refuse the TTL, and the error says so.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_ttl_that_the_servers_refuse_is_rejected() {
    let store = Store::open().await;
    let lock = store.lock().with_session_ttl_min(Duration::from_millis(10)).unwrap();
    let err = lock.acquire(&id("x"), store.admin.ttl_min / 2).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected));
    let why = std::error::Error::source(&err).unwrap().to_string();
    assert!(why.contains("Session TTL"), "{why}");
}

/// A spare session that is older than a tenth of its TTL is renewed at its grant, so that a lease
/// begins with nearly all of it.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_lease_on_an_old_session_begins_fresh() {
    let store = Store::open().await;
    let lock = store.lock();
    let ttl = store.admin.ttl_min * 4;
    let session = |lease: &glock_consul::Lease| lease.owner().reveal()[..36].to_owned();
    let first = lock.acquire(&id("x"), ttl).await.unwrap();
    lock.release(&first).await.unwrap();
    for part in [20, 4, 3, 2] {
        tokio::time::sleep(ttl * (20 - part) / 20 / 2).await;
        let lease = lock.acquire(&id("x"), ttl).await.unwrap();
        assert!(lease.remaining() > ttl * 8 / 10, "{:?} of {ttl:?}", lease.remaining());
        assert_eq!(session(&lease), session(&first));
        lock.release(&lease).await.unwrap();
    }
}

/// A lease that is over may live on in Consul for as long again, and be about to end: a renewal puts it
/// on another session, which surely lives, whichever client renews it.
#[tokio::test]
#[ignore = "needs a server: run `cargo xtask integration consul`"]
async fn a_lease_that_is_overdue_is_renewed_on_another_session() {
    let store = Store::open().await;
    let ttl = store.admin.ttl_min.max(Duration::from_secs(4));
    for by_itself in [true, false] {
        let ours = store.lock();
        let lease = ours.acquire(&id("x"), ttl).await.unwrap();
        let before = store.admin.session_of(&store.key("x")).await.unwrap();
        sleep_until(lease.deadline() + ttl / 50).await;
        let who = if by_itself { &ours } else { &store.lock() };
        let renewed = who.renew(&lease, ttl).await.unwrap();
        assert_eq!((renewed.fence(), renewed.owner()), (lease.fence(), lease.owner()));
        assert!(renewed.remaining() > ttl / 2 && renewed.ttl() == ttl, "{renewed:?}");
        let after = store.admin.session_of(&store.key("x")).await.unwrap();
        assert_ne!(before, after, "by itself: {by_itself}");
        // Its first lease is as good as the new one while this client knows how old its session is.
        drop(who.renew(&lease, ttl).await.unwrap());
        assert_eq!(store.admin.session_of(&store.key("x")).await, Some(after));
        who.release(&renewed).await.unwrap();
        assert_eq!(store.held().await, 0);
    }
}

/// The server says that it has renewed the session which it is about to end, and the key is there yet.
#[tokio::test]
async fn a_session_that_is_about_to_end_is_no_lease() {
    const SESSION: &str = "008f85bf-2ece-1234-76e4-744f25601f0";
    let (mut made, mut sent) = (0, 0);
    let fake = FakeServer::start(move |line| {
        // Its value says for how long the session was made: {"ttl":500}.
        let key = format!(
            r#"[{{"Key":"k","ModifyIndex":7,"Session":"{SESSION}1","Value":"eyJ0dGwiOjUwMH0="}}]"#
        );
        let reply = match line {
            line if line.contains("session/create") => {
                made += 1;
                (200, format!("{{\"ID\":\"{SESSION}{made}\"}}"))
            }
            line if line.contains("/txn") => {
                sent += 1;
                match sent {
                    1 => (200, r#"{"Results":[{"KV":{"Key":"k","ModifyIndex":7}}]}"#.to_owned()),
                    _ => (409, r#"{"Errors":[{"What":"failed session check"}]}"#.to_owned()),
                }
            }
            line if line.contains("GET /v1/kv") && sent < 2 => (200, key),
            line if line.contains("GET /v1/kv") => (404, String::new()),
            _ => (200, "true".to_owned()),
        };
        Some((reply.0, Some(9), reply.1))
    })
    .await;
    let client = glock_consul::ConsulClient::new(format!("http://{}", fake.addr)).unwrap();
    // A busy machine takes the lock within it.
    let ttl = Duration::from_millis(500);
    let lock = ConsulLock::new(client).with_session_ttl_min(ttl).unwrap();
    let lease = lock.acquire(&id("x"), ttl).await.unwrap();
    sleep_until(lease.deadline() + ttl).await;
    let renewed = lock.renew(&lease, ttl).await;
    assert!(matches!(renewed, Err(LockError::NotHeld { .. })), "{renewed:?}");
}

/// An agent whose sessions are `{SESSION}1`, `{SESSION}2` and so on, and which takes most of their TTL to
/// reply to a renewal; by then they may have ended. Each may lock the key, and has locked it when it is
/// read.
async fn slow_to_renew() -> (FakeServer, ConsulLock) {
    let made = Arc::new(AtomicU64::new(0));
    let delay = |line: &str| {
        if line.contains("session/renew") { SLOW_TTL * 3 / 4 } else { Duration::ZERO }
    };
    let fake = FakeServer::slow(delay, move |line| {
        let session = format!("{SESSION}{}", made.load(Relaxed));
        let kv = format!(
            r#"{{"Key":"k","ModifyIndex":{},"Session":"{session}","Value":"eyJ0dGwiOjgwMH0="}}"#,
            made.load(Relaxed)
        );
        let body = match line {
            line if line.contains("session/create") => {
                format!("{{\"ID\":\"{SESSION}{}\"}}", made.fetch_add(1, Relaxed) + 1)
            }
            line if line.contains("/txn") => format!(r#"{{"Results":[{{"KV":{kv}}}]}}"#),
            line if line.contains("GET /v1/kv") => format!("[{kv}]"),
            _ => "true".to_owned(),
        };
        Some((200, Some(9), body))
    })
    .await;
    let client = glock_consul::ConsulClient::new(format!("http://{}", fake.addr)).unwrap();
    let lock = ConsulLock::new(client).with_session_ttl_min(SLOW_TTL).unwrap();
    (fake, lock)
}

const SESSION: &str = "008f85bf-2ece-1234-76e4-744f25601f0";
/// As the value in `slow_to_renew` says.
const SLOW_TTL: Duration = Duration::from_millis(800);

/// A spare session is renewed beside its use, and the reply arrives after its TTL: whether it was renewed
/// before it ended is not known, so the lock is granted on another session.
#[tokio::test]
async fn a_spare_session_that_is_renewed_too_late_grants_nothing() {
    let (fake, lock) = slow_to_renew().await;
    let first = lock.acquire(&id("x"), SLOW_TTL).await.unwrap();
    lock.release(&first).await.unwrap();
    tokio::time::sleep(SLOW_TTL / 2).await;
    let second = lock.acquire(&id("x"), SLOW_TTL).await.unwrap();
    assert_ne!(second.owner().reveal()[..36], first.owner().reveal()[..36]);
    assert!(second.remaining() > SLOW_TTL / 2, "{:?}", second.remaining());
    let ended = format!("session/destroy/{SESSION}1");
    eventually("it is ended", LONG, async || {
        fake.received().iter().any(|line| line.contains(&ended))
    })
    .await;
}

/// The same with a hold: its renewal transfers it to another session.
#[tokio::test]
async fn a_hold_that_is_renewed_too_late_is_transferred() {
    let (fake, lock) = slow_to_renew().await;
    let lease = lock.acquire(&id("x"), SLOW_TTL).await.unwrap();
    tokio::time::sleep(SLOW_TTL / 2).await;
    let renewed = lock.renew(&lease, SLOW_TTL).await.unwrap();
    assert!(renewed.remaining() > SLOW_TTL / 2, "{:?}", renewed.remaining());
    let creates = fake.received().iter().filter(|line| line.contains("session/create")).count();
    assert_eq!(creates, 2, "it stayed on the session that may be over");
}
