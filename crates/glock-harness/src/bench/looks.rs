//! How long a look at a guard takes: no I/O, so nanoseconds.

use std::{hint::black_box, time::Duration};

use glock_core::{Lock, LockExt, Retry};
use tokio::time::Instant;

use crate::bench::measure::{Budget, Measure, TTL};

/// The budget, which the table repeats.
const LOOK_NANOS_MAX: f64 = 25.0;

const LOOKS: u32 = 1_000_000;
const ROUNDS: usize = 5;

/// The best of a few rounds: what disturbs a look is the machine's, not the guard's.
///
/// A look reads the clock, and a machine on which that alone takes longer than the budget cannot
/// keep it: there, a look may take a quarter longer than the bare reading.
pub(super) async fn measure<L: Lock + Clone>(lock: &L) -> Measure {
    let guard = lock.hold("look", TTL, Retry::NEVER).await.expect("a free lock");
    let clock = best_of(|| {
        black_box(Instant::now());
    });
    let nanos = best_of(|| {
        black_box(black_box(&guard).is_valid() && black_box(&guard).fence().get() > 0);
    });
    guard.release().await.expect("a lease that holds");
    Measure {
        what: "is_valid() and fence(), ns, beside the clock",
        raw: format!("{clock:.1} ns"),
        glock: format!("{nanos:.1} ns"),
        ratio: nanos,
        budget: Budget::AtMost(LOOK_NANOS_MAX.max(clock * 1.25)),
    }
}

/// Nanoseconds a turn.
fn best_of(mut look: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let since = Instant::now();
        for _ in 0..LOOKS {
            look();
        }
        since.elapsed()
    });
    rounds.min().unwrap_or(Duration::MAX).as_secs_f64() * 1e9 / f64::from(LOOKS)
}
