//! Every action of a store's lock, with success, refusal, failure and loss, and what is reported of it.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use glock_core::{Lock, LockExt, LockId, LossReason, Retry, toolkit::LockHooks};
use glock_telemetry::names;
use glock_testing::{Proxy, process::eventually};
use opentelemetry::trace::{SpanKind, Status};
use tokio::time::{Instant, timeout};

use crate::telemetry::recorder::{Recorder, Via, attributes};

const TTL: Duration = Duration::from_secs(2);
/// The TTL of a lease that is renewed: long enough for a renewal that a busy machine delays.
const HELD_TTL: Duration = Duration::from_secs(6);
/// How long an event may take from a guard's task to its metrics.
const RECORDED_WITHIN: Duration = Duration::from_secs(10);

/// Asserts that telemetry reports all that happens to a lock. `open` opens a client of the store, behind
/// a proxy before `upstream` if it is given an address.
pub async fn all_is_reported<L: Lock + Clone>(
    via: Via,
    upstream: SocketAddr,
    open: impl AsyncFn(Option<SocketAddr>) -> L,
) {
    every_call_is_reported(via, open(None).await, open(None).await).await;
    let proxy = Proxy::start(upstream).await.unwrap();
    let outage = async || {
        proxy.refuse();
        proxy.cut();
    };
    an_outage_is_reported(via, open(Some(proxy.addr())).await, outage).await;
}

/// The first server that a URL or connect string names.
pub fn upstream(url: &str) -> SocketAddr {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', ',', '?']).next().unwrap();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.to_socket_addrs().expect("a host and a port in the URL").next().unwrap()
}

/// Does everything that can be done with a lock, and asserts that it is reported. `one` is watched, `other`
/// is another client.
pub async fn every_call_is_reported(via: Via, one: impl Lock + Clone, other: impl Lock) {
    let (recorder, backend) = (Recorder::new(via), one.backend());
    let lock = recorder.watch(one);
    make_every_call(&lock).await;

    let labels = [(names::BACKEND, backend)];
    let guard = lock.hold("x", HELD_TTL, Retry::FOREVER).await.unwrap();
    let margin = || recorder.point(names::RENEW_MARGIN_SECONDS, &labels);
    eventually("a renewal is recorded", HELD_TTL, async || margin().is_some()).await;
    assert!(
        margin().unwrap().sum > HELD_TTL.as_secs_f64() / 2.0,
        "two thirds of the lease are left"
    );
    let seen = other.inspect(guard.id()).await.unwrap().expect("another client sees the hold");
    assert_eq!(seen.fence, guard.fence());
    guard.release().await.unwrap();
    // A guard's task records the end of its hold by itself.
    eventually("the hold's end is recorded", RECORDED_WITHIN, async || {
        recorder.point(names::HELD, &labels).is_some_and(|held| held.count == 0)
    })
    .await;
    // Without a queue of its clients' waiters, a store keeps one.
    let queues = lock.queue().is_none();
    assert_calls(&recorder, backend, queues);
    for (end, count) in [("granted", 1), ("gave_up", 1), ("cancelled", 1)] {
        let labels = [(names::BACKEND, backend), (names::OUTCOME, end)];
        assert_eq!(recorder.point(names::WAIT_SECONDS, &labels).unwrap().count, count, "{end}");
    }
    // Where the store keeps the queue, no waiter sleeps beside it.
    let waits = (!queues).then_some("wait");
    let actions = ["acquire", "renew", "release", "inspect"].into_iter().chain(waits);
    assert_spans(&recorder, backend, actions);
}

/// Every outcome of every call, without a guard.
async fn make_every_call(lock: &impl Lock) {
    let id = LockId::new("x").unwrap();
    let lease = lock.acquire(&id, TTL * 9).await.unwrap();
    lock.acquire(&id, TTL).await.unwrap_err();
    lock.acquire(&id, Duration::ZERO).await.unwrap_err();
    let lease = lock.renew(&lease, TTL * 9).await.unwrap();
    assert_eq!(lock.inspect(&id).await.unwrap().unwrap().fence, lease.fence());
    let patience = Retry::within(TTL / 8);
    lock.acquire_with_retry("x", TTL * 9, patience).await.unwrap_err();
    assert!(timeout(TTL / 8, lock.acquire_with_retry("x", TTL, Retry::FOREVER)).await.is_err());
    lock.release(&lease).await.unwrap();
    lock.release(&lease).await.unwrap_err();
    lock.renew(&lease, TTL).await.unwrap_err();
}

/// Each call was counted by its outcome, and timed.
fn assert_calls(recorder: &Recorder, backend: &str, queues: bool) {
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
            // The time in a store's own queue is no latency: it is in `lock_wait_seconds`.
            let one_in_queue = i64::from(queues && what == format!("{} ok", names::ACQUIRE_TOTAL));
            assert_eq!(counted.count, timed.count + one_in_queue, "{what}");
            // How often a waiter looks and a guard renews is theirs to choose: zero stands for any.
            assert!(*count == 0 || counted.count == *count, "{what}: {}", counted.count);
            assert!(timed.sum > 0.0 || *outcome == "invalid", "{what} took no time");
        }
    }
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

/// Asserts that telemetry reports a store that becomes unreachable in mid-hold: failures, a loss, and the
/// driver's cause in the span. `outage` begins it.
pub async fn an_outage_is_reported(via: Via, lock: impl Lock + Clone, outage: impl AsyncFnOnce()) {
    let (recorder, backend) = (Recorder::new(via), lock.backend());
    let lock = recorder.watch(lock);
    let guard = lock.hold("y", TTL, Retry::FOREVER).await.unwrap();
    outage().await;
    let since = Instant::now();
    let lost = timeout(TTL * 2, guard.lost()).await;
    assert_eq!(lost.expect("lost by its deadline"), LossReason::Expired);
    // A lock that depends on its connections may be lost before a renewal is due.
    let renewed = since.elapsed() > TTL / 2;
    lock.acquire(&LockId::new("y").unwrap(), TTL).await.unwrap_err();

    let expired = [(names::BACKEND, backend), (names::REASON, "expired")];
    let lost = [(names::BACKEND, backend), (names::OUTCOME, names::LOST)];
    eventually("the loss is recorded once", RECORDED_WITHIN, async || {
        let counted = |point: &str, labels| recorder.point(point, labels).map(|point| point.count);
        counted(names::LOST_TOTAL, &expired) == Some(1)
            && counted(names::HOLD_SECONDS, &lost) == Some(1)
    })
    .await;
    let totals = [names::ACQUIRE_TOTAL, names::RENEW_TOTAL];
    for total in &totals[..if renewed { 2 } else { 1 }] {
        let total = *total;
        // A renewal that is tried until the lease is over is cancelled rather than failed.
        eventually(&format!("failures in {total}"), RECORDED_WITHIN, async || {
            let points = recorder.points(total);
            let with = |outcome| points.iter().any(|it| it.attributes[names::OUTCOME] == outcome);
            with("error") || total == names::RENEW_TOTAL && with("cancelled")
        })
        .await;
        let points = recorder.points(total);
        let mut errors = points.iter().filter(|it| it.attributes[names::OUTCOME] == "error");
        assert!(errors.all(|point| point.attributes.contains_key(names::REASON)));
    }
    let spans = recorder.spans_named(&format!("{backend}_lock.acquire"));
    let Status::Error { description } = &spans.last().unwrap().status else {
        panic!("the store was unreachable: {spans:#?}")
    };
    assert!(description.contains("could not acquire the lock on"), "{description}");
    assert!(description.matches(": ").count() >= 2, "the driver's cause is missing: {description}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_server_of_a_url_is_found() {
        for url in [
            "127.0.0.1:7000",
            "127.0.0.1:7000,127.0.0.1:7001",
            "http://127.0.0.1:7000/?token=secret",
            "postgres://user:p%40ss@127.0.0.1:7000/database",
        ] {
            assert_eq!(upstream(url), ([127, 0, 0, 1], 7000).into(), "{url}");
        }
    }
}
