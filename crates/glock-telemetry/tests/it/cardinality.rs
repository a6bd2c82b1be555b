//! Cardinality: however many locks there are, the number of series stays.

use std::time::Duration;

use glock_core::{Lock, LockExt, LockId, Retry};
use glock_telemetry::names;
use glock_testing::MemoryLock;

use glock_harness::telemetry::{Recorder, Via};

const IDS: usize = 100_000;
const TTL: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_ids_make_no_more_series_than_one() {
    let recorder = Recorder::new(Via::Layer);
    // What a sampler drops, the metrics count all the same; spans would fill the memory here.
    let quiet = tracing::subscriber::set_default(tracing::subscriber::NoSubscriber::default());
    let lock = recorder.watch(MemoryLock::new());
    let mut first = 0;
    for n in 0..IDS {
        let id = LockId::new(format!("user/{n}/inbox")).unwrap();
        let lease = lock.acquire(&id, TTL).await.unwrap();
        lock.release(&lease).await.unwrap();
        if n % 100 == 0 {
            lock.release(&lease).await.unwrap_err();
            let lease = lock.acquire(&id, TTL).await.unwrap();
            lock.acquire(&id, TTL).await.unwrap_err();
            let lease = lock.renew(&lease, TTL).await.unwrap();
            lock.release(&lease).await.unwrap();
            lock.hold(id, TTL, Retry::FOREVER).await.unwrap().release().await.unwrap();
        }
        if n == 0 {
            first = recorder.metrics().1;
        }
    }
    drop(quiet);
    let (metrics, series) = recorder.metrics();
    assert_eq!(series, first);
    assert!(metrics.iter().all(|name| names::METRICS.contains(&name.as_str())), "{metrics:?}");
    for point in metrics.iter().flat_map(|name| recorder.points(name)) {
        for (name, value) in &point.attributes {
            assert!(names::ATTRIBUTES.contains(&name.as_str()), "{name}");
            assert!(!value.contains("user"), "{value}");
        }
    }
    let ok = [(names::BACKEND, "memory"), (names::OUTCOME, "ok"), (names::SUCCESS, "true")];
    let acquired = recorder.point(names::ACQUIRE_TOTAL, &ok).unwrap().count;
    assert_eq!(usize::try_from(acquired).unwrap(), IDS + 2 * (IDS / 100));
}

#[tokio::test(start_paused = true)]
async fn every_metric_is_recorded_under_its_name() {
    let recorder = Recorder::new(Via::Layer);
    let lock = recorder.watch(MemoryLock::new());
    let guard = lock.hold("x", TTL, Retry::FOREVER).await.unwrap();
    tokio::time::sleep(TTL / 2).await;
    guard.release().await.unwrap();
    let names: Vec<_> = recorder.metrics().0.into_iter().collect();
    let mut wanted = names::METRICS.map(String::from);
    wanted.sort();
    assert_eq!(names, wanted);
}
