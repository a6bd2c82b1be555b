//! The same reports from real stores: every action, with success, refusal, failure and loss.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    str::FromStr,
    time::Duration,
};

use glock_core::{Lock, LockConfig, LockExt, LockId, LossReason, Retry};
use glock_postgres::{PostgresLock, sqlx::postgres::PgConnectOptions};
use glock_redis::{
    RedisLock,
    redis::{Client, ConnectionAddr, IntoConnectionInfo},
};
use glock_telemetry::names;
use glock_testing::{Proxy, fresh_namespace, url_from_env};
use opentelemetry::trace::{SpanKind, Status};
use tokio::time::{sleep, timeout};

use crate::recorder::{Recorder, Via, attributes};

const TTL: Duration = Duration::from_secs(2);

/// Does everything that can be done with a lock. `one` is watched, `other` looks on.
async fn every_report_is_made(via: Via, one: impl Lock + Clone, other: impl Lock) {
    let (recorder, backend, id) = (Recorder::new(via), one.backend(), LockId::new("x").unwrap());
    let lock = recorder.watch(one);

    let lease = lock.acquire(&id, TTL).await.unwrap();
    lock.acquire(&id, TTL).await.unwrap_err();
    lock.acquire(&id, Duration::ZERO).await.unwrap_err();
    let lease = lock.renew(&lease, TTL).await.unwrap();
    assert_eq!(lock.inspect(&id).await.unwrap().unwrap().fence, lease.fence());
    let patience = Retry::within(TTL / 8);
    lock.acquire_with_retry("x", TTL * 9, patience).await.unwrap_err();
    assert!(timeout(TTL / 8, lock.acquire_with_retry("x", TTL, Retry::FOREVER)).await.is_err());
    lock.release(&lease).await.unwrap();
    lock.release(&lease).await.unwrap_err();
    lock.renew(&lease, TTL).await.unwrap_err();

    let guard = lock.hold("x", TTL, Retry::FOREVER).await.unwrap();
    sleep(TTL / 2).await;
    let seen = other.inspect(&id).await.unwrap().expect("another client sees the hold");
    assert_eq!(seen.fence, guard.fence());
    guard.release().await.unwrap();

    let success = |outcome| if outcome == "ok" { "true" } else { "false" };
    for (total, latency, outcomes) in [
        (
            names::ACQUIRE_TOTAL,
            names::ACQUIRE_LATENCY_SECONDS,
            &[("ok", 2), ("invalid", 1), ("held", 0)][..],
        ),
        (names::RENEW_TOTAL, names::RENEW_LATENCY_SECONDS, &[("ok", 0), ("not_held", 1)]),
        (names::RELEASE_TOTAL, names::RELEASE_LATENCY_SECONDS, &[("ok", 2), ("not_held", 1)]),
    ] {
        for (outcome, count) in outcomes {
            let labels = [
                (names::BACKEND, backend),
                (names::OUTCOME, *outcome),
                (names::SUCCESS, success(*outcome)),
            ];
            let (counted, timed) =
                (recorder.point(total, &labels), recorder.point(latency, &labels));
            let what = format!("{total} {outcome}");
            let (counted, timed) = (counted.expect(&what), timed.expect(&what));
            assert_eq!(counted.count, timed.count, "{what}");
            // How often a waiter looks and a guard renews is theirs to choose: zero stands for any.
            assert!(*count == 0 || counted.count == *count, "{what}: {}", counted.count);
            assert!(timed.sum > 0.0 || *outcome == "invalid", "{what} took no time");
        }
    }
    for (end, count) in [("granted", 1), ("gave_up", 1), ("cancelled", 1)] {
        let labels = [(names::BACKEND, backend), (names::OUTCOME, end)];
        assert_eq!(recorder.point(names::WAIT_SECONDS, &labels).unwrap().count, count, "{end}");
    }
    let margin = recorder.point(names::RENEW_MARGIN_SECONDS, &[(names::BACKEND, backend)]);
    assert!(margin.unwrap().sum > 1.0, "two thirds of the lease are left");
    assert_eq!(recorder.point(names::HELD, &[(names::BACKEND, backend)]).unwrap().count, 0);
    assert_spans(&recorder, backend);
}

/// Every span is a client's and says how its call ended; none has failed.
fn assert_spans(recorder: &Recorder, backend: &str) {
    for action in ["acquire", "renew", "release", "wait", "inspect"] {
        let spans = recorder.spans_named(&format!("{backend}_lock.{action}"));
        assert!(!spans.is_empty(), "{action}");
        for span in spans {
            assert_eq!((span.span_kind, &span.status), (SpanKind::Client, &Status::Unset));
            let found = attributes(&span.attributes);
            assert_eq!((&*found[names::LOCK_ID], &*found[names::BACKEND]), ("x", backend));
            assert!(found.contains_key(names::OUTCOME), "{action}: {found:?}");
        }
    }
}

/// A store that goes away in mid-hold: failures, a loss, and the driver's cause in the span.
async fn an_outage_is_reported(via: Via, lock: impl Lock + Clone, proxy: &Proxy) {
    let (recorder, backend) = (Recorder::new(via), lock.backend());
    let lock = recorder.watch(lock);
    let guard = lock.hold("y", TTL, Retry::FOREVER).await.unwrap();
    proxy.refuse();
    proxy.cut();
    let lost = timeout(TTL * 2, guard.lost()).await;
    assert_eq!(lost.expect("lost by its deadline"), LossReason::Expired);
    lock.acquire(&LockId::new("y").unwrap(), TTL).await.unwrap_err();
    sleep(Duration::from_millis(50)).await;

    let expired = [(names::BACKEND, backend), (names::REASON, "expired")];
    assert_eq!(recorder.point(names::LOST_TOTAL, &expired).unwrap().count, 1);
    let lost = [(names::BACKEND, backend), (names::OUTCOME, names::LOST)];
    assert_eq!(recorder.point(names::HOLD_SECONDS, &lost).unwrap().count, 1);
    for total in [names::ACQUIRE_TOTAL, names::RENEW_TOTAL] {
        let failed = recorder.points(total);
        let failed = failed.iter().filter(|point| point.attributes[names::OUTCOME] == "error");
        let failed: Vec<_> = failed.collect();
        assert!(!failed.is_empty(), "{total}");
        assert!(failed.iter().all(|point| point.attributes.contains_key(names::REASON)));
    }
    let spans = recorder.spans_named(&format!("{backend}_lock.acquire"));
    let Status::Error { description } = &spans.last().unwrap().status else {
        panic!("the store was away: {spans:#?}")
    };
    assert!(description.contains("could not acquire the lock on"), "{description}");
    assert!(description.matches(": ").count() >= 2, "the driver's cause is missing: {description}");
}

fn redis(server: Option<SocketAddr>, namespace: &str) -> RedisLock {
    let url = url_from_env("GLOCK_REDIS_URL", "redis");
    let mut info = url.as_str().into_connection_info().unwrap();
    if let Some(server) = server {
        info = info.set_addr(ConnectionAddr::Tcp(server.ip().to_string(), server.port()));
    }
    let config = LockConfig::default().with_namespace(namespace);
    RedisLock::new(Client::open(info).unwrap()).with_config(config).unwrap()
}

async fn redis_is_reported_on(via: Via) {
    let namespace = fresh_namespace();
    every_report_is_made(via, redis(None, &namespace), redis(None, &namespace)).await;
    let url = url_from_env("GLOCK_REDIS_URL", "redis");
    let server = url.as_str().into_connection_info().unwrap().addr().to_string();
    let proxy = Proxy::start(server.to_socket_addrs().unwrap().next().unwrap()).await.unwrap();
    an_outage_is_reported(via, redis(Some(proxy.addr()), &namespace), &proxy).await;
}

#[tokio::test]
#[ignore = "needs a server: set GLOCK_REDIS_URL and run with `--ignored`"]
async fn redis_is_reported_on_through_the_layer() {
    redis_is_reported_on(Via::Layer).await;
}

#[tokio::test]
#[ignore = "needs a server: set GLOCK_REDIS_URL and run with `--ignored`"]
async fn redis_is_reported_on_through_a_provider() {
    redis_is_reported_on(Via::Provider).await;
}

async fn postgres(server: Option<SocketAddr>, namespace: &str) -> PostgresLock {
    let url = url_from_env("GLOCK_POSTGRES_URL", "postgres");
    let mut options = PgConnectOptions::from_str(&url).unwrap();
    if let Some(server) = server {
        options = options.host(&server.ip().to_string()).port(server.port());
    }
    let pool = PostgresLock::pool_options().max_connections(4).connect_lazy_with(options);
    let config = LockConfig::default().with_namespace(namespace);
    let lock = PostgresLock::new(pool).with_config(config).unwrap();
    lock.ensure_schema().await.unwrap();
    lock
}

async fn postgres_is_reported_on(via: Via) {
    let namespace = fresh_namespace();
    let (one, other) = (postgres(None, &namespace).await, postgres(None, &namespace).await);
    every_report_is_made(via, one, other).await;
    let url = url_from_env("GLOCK_POSTGRES_URL", "postgres");
    let options = PgConnectOptions::from_str(&url).unwrap();
    let server = (options.get_host(), options.get_port());
    let proxy = Proxy::start(server.to_socket_addrs().unwrap().next().unwrap()).await.unwrap();
    an_outage_is_reported(via, postgres(Some(proxy.addr()), &namespace).await, &proxy).await;
}

#[tokio::test]
#[ignore = "needs a server: set GLOCK_POSTGRES_URL and run with `--ignored`"]
async fn postgres_is_reported_on_through_the_layer() {
    postgres_is_reported_on(Via::Layer).await;
}

#[tokio::test]
#[ignore = "needs a server: set GLOCK_POSTGRES_URL and run with `--ignored`"]
async fn postgres_is_reported_on_through_a_provider() {
    postgres_is_reported_on(Via::Provider).await;
}
