//! What must not allocate does not; a pattern for tests of other crates.

use std::hint::black_box;

use alloc_tracker::{Allocator, Session};
use glock_testing::proxy::{Counts, Proxy};

#[global_allocator]
static ALLOCATOR: Allocator<std::alloc::System> = Allocator::system();

/// Allocations that `work` makes on this thread; other tests run on threads of their own.
fn allocations(work: impl FnOnce()) -> u64 {
    let session = Session::new().no_stdout().no_file();
    let operation = session.operation("work");
    let span = operation.measure_thread().iterations(1);
    work();
    drop(span);
    session.to_report().operations().map(|(_, operation)| operation.total_allocations_count()).sum()
}

#[test]
fn allocations_are_counted() {
    assert_eq!(allocations(|| {}), 0);
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| drop(black_box((Box::new(1), vec![1, 2, 3])))), 2);
}

#[tokio::test]
async fn reading_a_proxys_counters_allocates_nothing() {
    let proxy = Proxy::start(([127, 0, 0, 1], 1).into()).await.expect("a loopback port");
    let read = || {
        let counts = black_box(proxy.counts()) - Counts::default();
        assert_eq!((counts.requests, proxy.connections(), proxy.is_armed()), (0, 0, false));
    };
    assert_eq!(allocations(read), 0);
}
