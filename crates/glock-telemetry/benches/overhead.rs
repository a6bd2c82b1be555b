//! What a call costs on top of a lock that does nothing; fails if that is over the budget.
//!
//! `cargo bench -p glock-telemetry`
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]
#![allow(clippy::unwrap_used, reason = "a bench that fails has nothing to say")]

#[path = "../tests/support/noop.rs"]
mod noop;

use std::{hint::black_box, time::Duration};

use alloc_tracker::{Allocator, Session};
use glock_core::{Lease, Lock, LockId};
use glock_telemetry::Instrumented;
use opentelemetry_sdk::{
    metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider},
    trace::SdkTracerProvider,
};
use tokio::time::Instant;

use self::noop::{Noop, lease, now};

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

/// Rounds are short and the fastest counts: what is slower was disturbed by something else on the
/// machine.
const CALLS: u32 = 2_000;
const ROUNDS: u32 = 1_000;
const TTL: Duration = Duration::from_secs(30);

/// At most so many nanoseconds a call on top.
const OFF_MAX: f64 = 100.0;
const METRICS_MAX: f64 = 400.0;

fn main() {
    let reader = PeriodicReader::builder(InMemoryMetricExporter::default()).build();
    let meters = SdkMeterProvider::builder().with_reader(reader).build();
    let tracers = SdkTracerProvider::builder().build();
    let off = Instrumented::new(Noop);
    let metrics = Instrumented::new(Noop).with_meter_provider(&meters);
    let all = metrics.clone().with_tracer_provider(&tracers);

    println!("ns and allocations a call, on top of a lock that does nothing\n");
    println!("{:<16} {:>16} {:>16} {:>16}", "", "providers off", "metrics on", "metrics + spans");
    let mut worst = (0.0_f64, 0.0_f64);
    for (name, call) in CALLS_MEASURED {
        let bare = measure(&Noop, call.bare);
        let on_top = |measured: (f64, u64)| (measured.0 - bare.0, measured.1 - bare.1);
        let [off, on, spans] =
            [&off, &metrics, &all].map(|lock| on_top(measure(lock, call.instrumented)));
        let cell = |(ns, allocations)| format!("{ns:.0} ns, {allocations}");
        println!("{name:<16} {:>16} {:>16} {:>16}", cell(off), cell(on), cell(spans));
        worst = (worst.0.max(off.0), worst.1.max(on.0));
    }
    println!(
        "{:<16} {:>16} {:>16}",
        "budget",
        format!("{OFF_MAX} ns"),
        format!("{METRICS_MAX} ns")
    );
    assert!(worst.0 <= OFF_MAX, "providers off: {:.0} ns", worst.0);
    assert!(worst.1 <= METRICS_MAX, "metrics on: {:.0} ns", worst.1);
}

struct Call {
    bare: fn(&Noop, &LockId, &Lease),
    instrumented: fn(&Instrumented<Noop>, &LockId, &Lease),
}

const CALLS_MEASURED: [(&str, Call); 3] = [
    (
        "refused acquire",
        Call { bare: acquire::<Noop>, instrumented: acquire::<Instrumented<Noop>> },
    ),
    ("renew", Call { bare: renew::<Noop>, instrumented: renew::<Instrumented<Noop>> }),
    ("release", Call { bare: release::<Noop>, instrumented: release::<Instrumented<Noop>> }),
];

fn acquire<L: Lock>(lock: &L, id: &LockId, _: &Lease) {
    let _ = black_box(now(lock.acquire(id, TTL)));
}

fn renew<L: Lock>(lock: &L, _: &LockId, lease: &Lease) {
    let _ = black_box(now(lock.renew(lease, TTL)));
}

fn release<L: Lock>(lock: &L, _: &LockId, lease: &Lease) {
    let _ = black_box(now(lock.release(lease)));
}

/// Nanoseconds and allocations a call.
fn measure<L>(lock: &L, call: fn(&L, &LockId, &Lease)) -> (f64, u64) {
    let id = LockId::new("bench").unwrap();
    let lease = lease(&id);
    let round = || {
        let since = Instant::now();
        for _ in 0..CALLS {
            call(black_box(lock), &id, &lease);
        }
        since.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    };
    let fastest = (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min);
    (fastest, allocations(|| call(lock, &id, &lease)))
}

fn allocations(work: impl FnOnce()) -> u64 {
    let session = Session::new().no_stdout().no_file();
    let operation = session.operation("call");
    let span = operation.measure_thread().iterations(1);
    work();
    drop(span);
    session.to_report().operations().map(|(_, operation)| operation.total_allocations_count()).sum()
}
