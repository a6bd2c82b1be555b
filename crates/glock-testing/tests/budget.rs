//! What a held lock costs: bytes, allocations and nanoseconds.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use std::{hint::black_box, time::Duration};

use alloc_tracker::{Allocator, Session};
use glock_core::{Guard, LockExt, Retry};
use glock_testing::{MemoryLock, process::resident_bytes};
use tokio::{runtime::Runtime, time::Instant};

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

const TTL: Duration = Duration::from_secs(30);
const HELD_BYTES_MAX: u64 = 2_048;

/// How often and how much `work` allocates on this thread.
fn allocated(work: impl FnOnce()) -> (u64, u64) {
    let session = Session::new().no_stdout().no_file();
    let operation = session.operation("work");
    let span = operation.measure_thread().iterations(1);
    work();
    drop(span);
    let report = session.to_report();
    report.operations().fold((0, 0), |(count, bytes), (_, operation)| {
        (count + operation.total_allocations_count(), bytes + operation.total_bytes_allocated())
    })
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

async fn hold(lock: &MemoryLock, name: &str) -> Guard {
    let guard = lock.hold(name, TTL, Retry::NEVER).await.unwrap();
    // The task that renews goes to sleep.
    tokio::task::yield_now().await;
    guard
}

#[test]
fn a_held_and_renewed_lock_takes_at_most_2_kib() {
    const LOCKS: u64 = 20_000;
    let (runtime, lock) = (runtime(), MemoryLock::new());
    let mut guards: Vec<Guard> = Vec::new();
    let before = resident_bytes();
    runtime.block_on(async {
        for n in 0..LOCKS {
            guards.push(hold(&lock, &format!("lock{n:032}")).await);
        }
    });
    let each = (resident_bytes() - before) / LOCKS;
    assert!(guards.iter().all(Guard::is_valid));
    // The record in the memory of the "server" counts too, so this is an upper bound.
    assert!(each <= HELD_BYTES_MAX, "{each} bytes a lock");
    println!("{each} bytes a held lock");
    assert!(each > 100, "{each} bytes a lock cannot be true");
}

#[test]
fn looking_at_a_guard_allocates_nothing() {
    let (runtime, lock) = (runtime(), MemoryLock::new());
    let guard = runtime.block_on(hold(&lock, "x"));
    let (view, _in_runtime) = (guard.view(), runtime.enter());
    let looks = allocated(|| {
        for _ in 0..1_000 {
            assert!(black_box(&guard).is_valid() && black_box(&view).is_valid());
            assert_eq!(black_box(&guard).fence(), view.fence());
            assert!(black_box(&guard).remaining() > Duration::ZERO);
        }
    });
    assert_eq!(looks, (0, 0));
}

/// The budget of 25 ns is the benches'; here it only must not do any I/O, in a debug build.
#[test]
fn looking_at_a_guard_does_no_io() {
    let (runtime, lock) = (runtime(), MemoryLock::new());
    let guard = runtime.block_on(hold(&lock, "x"));
    let _in_runtime = runtime.enter();
    let since = Instant::now();
    for _ in 0..100_000 {
        assert!(black_box(&guard).is_valid());
    }
    let each = since.elapsed() / 100_000;
    assert!(each < Duration::from_micros(5), "{each:?}");
}
