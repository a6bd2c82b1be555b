//! A call costs one allocation on top of the lock inside, with metrics off and on.

#[path = "support/noop.rs"]
mod noop;

use std::{hint::black_box, time::Duration};

use alloc_tracker::{Allocator, Session};
use glock_core::{Lock, LockId};
use glock_telemetry::Instrumented;
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

use self::noop::{Noop, lease, now};

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

const TTL: Duration = Duration::from_secs(30);

/// Allocations that `work` makes on this thread.
fn allocations(work: impl FnOnce()) -> u64 {
    let session = Session::new().no_stdout().no_file();
    let operation = session.operation("work");
    let span = operation.measure_thread().iterations(1);
    work();
    drop(span);
    session.to_report().operations().map(|(_, operation)| operation.total_allocations_count()).sum()
}

/// What a refused acquire, a renewal and a release allocate.
fn of_each_call(lock: &impl Lock) -> [u64; 3] {
    let id = LockId::new("x").expect("a plain id");
    let lease = lease(&id);
    let calls = || {
        [
            allocations(|| drop(black_box(now(lock.acquire(&id, TTL))))),
            allocations(|| drop(black_box(now(lock.renew(&lease, TTL))))),
            allocations(|| drop(black_box(now(lock.release(&lease))))),
        ]
    };
    // The first record of each series allocates its place in the SDK.
    calls();
    calls()
}

#[test]
fn a_call_costs_one_allocation_more() {
    let reader = PeriodicReader::builder(InMemoryMetricExporter::default()).build();
    let meters = SdkMeterProvider::builder().with_reader(reader).build();
    let one_more = of_each_call(&Noop).map(|bare| bare + 1);
    let lock = Instrumented::new(Noop);
    assert_eq!(of_each_call(&lock), one_more, "providers off");
    assert_eq!(of_each_call(&lock.with_meter_provider(&meters)), one_more, "metrics on");
}
