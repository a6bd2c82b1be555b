//! The same reports from real stores: every action, with success, refusal, failure and loss.

mod opened;

use std::{net::SocketAddr, time::Duration};

use glock_core::{Fairness, Lock, LockExt, LockId, LossReason, Retry};
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

    let queues = lock.capabilities().fairness == Fairness::Store;
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
            // A place in a store's own line is no latency: how long it took is `lock_wait_seconds`.
            let in_line = i64::from(queues && what == format!("{} ok", names::ACQUIRE_TOTAL));
            assert_eq!(counted.count, timed.count + in_line, "{what}");
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
    // Where the store keeps the line, nobody sleeps beside it.
    let waits = (!queues).then_some("wait");
    let actions = ["acquire", "renew", "release", "inspect"].into_iter().chain(waits);
    assert_spans(&recorder, backend, actions);
}

/// Every span is a client's and says how its call ended; none has failed.
fn assert_spans(recorder: &Recorder, backend: &str, actions: impl Iterator<Item = &'static str>) {
    for action in actions {
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
        let points = recorder.points(total);
        let with = |outcome| points.iter().filter(move |p| p.attributes[names::OUTCOME] == outcome);
        // A renewal that tries on until the lease is over is given up rather than failed.
        let given_up = total == names::RENEW_TOTAL && with("cancelled").count() > 0;
        assert!(with("error").count() > 0 || given_up, "{total}");
        assert!(with("error").all(|point| point.attributes.contains_key(names::REASON)));
    }
    let spans = recorder.spans_named(&format!("{backend}_lock.acquire"));
    let Status::Error { description } = &spans.last().unwrap().status else {
        panic!("the store was away: {spans:#?}")
    };
    assert!(description.contains("could not acquire the lock on"), "{description}");
    assert!(description.matches(": ").count() >= 2, "the driver's cause is missing: {description}");
}

async fn is_reported_on<L: Lock + Clone>(
    via: Via,
    upstream: SocketAddr,
    open: impl AsyncFn(Option<SocketAddr>) -> L,
) {
    every_report_is_made(via, open(None).await, open(None).await).await;
    let proxy = Proxy::start(upstream).await.unwrap();
    an_outage_is_reported(via, open(Some(proxy.addr())).await, &proxy).await;
}

/// Two tests of a store, one for each way that spans may take.
macro_rules! reported {
    ($($module:ident: $store:ident, $variable:literal)+) => {$(
        mod $module {
            use super::{Via, fresh_namespace, is_reported_on, opened, url_from_env};

            async fn run(via: Via) {
                let url = url_from_env($variable, stringify!($store));
                let namespace = fresh_namespace();
                let open = async |server| opened::$store(&url, server, &namespace).await;
                is_reported_on(via, opened::upstream(&url), open).await;
            }

            #[tokio::test]
            #[ignore = concat!("needs a server: set ", $variable, " and run with `--ignored`")]
            async fn through_the_layer() {
                run(Via::Layer).await;
            }

            #[tokio::test]
            #[ignore = concat!("needs a server: set ", $variable, " and run with `--ignored`")]
            async fn through_a_provider() {
                run(Via::Provider).await;
            }
        }
    )+};
}

reported! {
    redis_is_reported_on: redis, "GLOCK_REDIS_URL"
    postgres_is_reported_on: postgres, "GLOCK_POSTGRES_URL"
    etcd_is_reported_on: etcd, "GLOCK_ETCD_URL"
    consul_is_reported_on: consul, "GLOCK_CONSUL_URL"
    zookeeper_is_reported_on: zookeeper, "GLOCK_ZOOKEEPER_URL"
}
