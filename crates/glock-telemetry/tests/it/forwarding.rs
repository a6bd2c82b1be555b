//! Forwarding: what the lock inside has of its own is not lost, and nothing global is touched.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use glock_core::{Event, Lock, LockExt, LockId, Retry, toolkit::LockHooks};
use glock_harness::telemetry::{Recorder, Via};
use glock_telemetry::{Instrumented, names};
use glock_testing::MemoryLock;
use tokio::time::timeout;

use crate::odd::Odd;

const TTL: Duration = Duration::from_secs(30);

#[tokio::test(start_paused = true)]
async fn every_method_reaches_the_lock_inside() {
    let store = MemoryLock::new();
    let odd = Odd::new(store.clone());
    let lock = Instrumented::new(odd.clone());
    assert_eq!(lock.backend(), odd.backend());
    assert_eq!(lock.capabilities(), odd.capabilities());
    assert!(std::ptr::eq(lock.queue().unwrap(), store.queue().unwrap()));
    let under_way = store.pending_work().begin();
    assert_eq!(lock.drain(TTL).await, 1);
    drop(under_way);
    let id = LockId::new("x").unwrap();
    lock.observe(&Event::HoldStarted { id: &id });
    assert_eq!(odd.seen.events.load(Relaxed), 1);
    let lease = lock.acquire(&id, TTL).await.unwrap();
    assert_eq!(lock.inspect(&id).await.unwrap().unwrap().fence, lease.fence());
    assert!(timeout(TTL / 2, lock.ended(&lease).unwrap()).await.is_err());
    assert!(odd.seen.ended.load(Relaxed));
    lock.get_ref().release(&lease).await.unwrap();
    assert_eq!(lock.into_inner().inner.held(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_lock_inside_carries_its_guards_too() {
    for via in [Via::Layer, Via::Provider] {
        let recorder = Recorder::new(via);
        let odd = Odd::new(MemoryLock::new());
        let lock = recorder.watch(odd.clone());
        let hold = async { lock.hold("x", TTL, Retry::FOREVER).await.unwrap().release().await };
        let span = tracing::info_span!("job");
        tracing::Instrument::instrument(hold, span).await.unwrap();
        assert!(odd.seen.carried.load(Relaxed));
        assert_eq!(odd.seen.events.load(Relaxed), 3, "waited, held, let go");
    }
}

#[tokio::test(start_paused = true)]
async fn any_lock_behind_a_pointer_can_be_watched() {
    let recorder = Recorder::new(Via::Layer);
    let lock: Arc<dyn Lock> =
        Arc::new(recorder.watch(Arc::new(MemoryLock::new()) as Arc<dyn Lock>));
    let guard = lock.hold("x", TTL, Retry::FOREVER).await.unwrap();
    assert_eq!(recorder.points(names::HELD)[0].count, 1);
    guard.release().await.unwrap();
    assert_eq!(recorder.spans().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn two_locks_can_report_to_two_places() {
    let (one, other) = (Recorder::new(Via::Provider), Recorder::new(Via::Provider));
    let id = LockId::new("x").unwrap();
    one.watch(MemoryLock::new()).acquire(&id, TTL).await.map(drop).unwrap();
    // A lock without a provider reports to the global one, which is not set here.
    Instrumented::new(MemoryLock::new()).acquire(&id, TTL).await.map(drop).unwrap();
    assert_eq!((one.metrics().1, one.spans().len()), (2, 1));
    assert_eq!(other.metrics().1, 0);
}

#[test]
fn debug_shows_the_lock_inside_and_no_more() {
    let shown = format!("{:?}", Instrumented::new(MemoryLock::new()));
    assert!(shown.starts_with("Instrumented(MemoryLock {"), "{shown}");
}
