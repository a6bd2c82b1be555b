//! `LockExt` alone is enough for an application: it takes any id and hands out guards and leases.

use std::time::Duration;

use glock_core::{Action, LockError, LockExt, Retry};

use crate::scripted::{Answer, Scripted};

const TTL: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn one_import_acquires_renews_inspects_and_releases() {
    let lock = Scripted::default();
    let lease = lock.try_acquire("x", TTL).await.unwrap();
    let lease = lock.renew_lease(&lease, TTL * 2).await.unwrap();
    assert_eq!(lease.ttl(), TTL * 2);
    assert!(lock.holder_of("x").await.is_ok());
    lock.release_lease(&lease).await.unwrap();
    assert_eq!(lock.calls(), [Action::Acquire, Action::Renew, Action::Release]);
}

#[tokio::test(start_paused = true)]
async fn try_hold_never_waits() {
    let lock = Scripted::default().acquire_answers(&[Answer::No, Answer::Yes]);
    let refused = lock.try_hold("x", TTL).await;
    assert!(matches!(refused, Err(LockError::Held { .. })), "{refused:?}");
    let guard = lock.try_hold("x", TTL).await.unwrap();
    guard.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_id_that_cannot_be_a_lock_s_is_refused_before_any_request() {
    let lock = Scripted::default();
    let invalid = |err: LockError| assert!(matches!(err, LockError::Invalid { .. }), "{err:?}");
    invalid(lock.try_acquire("", TTL).await.unwrap_err());
    invalid(lock.try_hold("a\nb", TTL).await.unwrap_err());
    invalid(lock.holder_of("").await.unwrap_err());
    invalid(lock.hold("", TTL, Retry::NEVER).await.unwrap_err());
    assert!(lock.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_guard_renews_for_what_the_store_granted() {
    let lock = Scripted::default();
    let guard = lock.hold("x", Duration::from_micros(10_000_100), Retry::NEVER).await.unwrap();
    tokio::time::sleep(TTL).await;
    let ttls = lock.ttls();
    assert!(
        ttls.len() > 2 && ttls.iter().all(|ttl| *ttl == Duration::from_millis(10_001)),
        "{ttls:?}"
    );
    guard.release().await.unwrap();
}
