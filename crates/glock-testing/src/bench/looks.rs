//! How long a look at a guard takes: no I/O, so nanoseconds.

use std::{hint::black_box, time::Duration};

use glock_core::{Lock, LockExt, Retry};
use tokio::time::Instant;

use super::{LOOK_NANOS_MAX, Line, TTL};

const LOOKS: u32 = 1_000_000;
const ROUNDS: usize = 5;

/// The best of a few rounds: what disturbs a look is the machine's, not the guard's.
pub(super) async fn measure<L: Lock + Clone>(lock: &L) -> Line {
    let guard = lock.hold("look", TTL, Retry::NEVER).await.expect("a free lock");
    let best = (0..ROUNDS).map(|_| {
        let since = Instant::now();
        for _ in 0..LOOKS {
            black_box(black_box(&guard).is_valid() && black_box(&guard).fence().get() > 0);
        }
        since.elapsed()
    });
    let best = best.min().unwrap_or(Duration::MAX);
    guard.release().await.expect("a lease that holds");
    let nanos = best.as_secs_f64() * 1e9 / f64::from(LOOKS);
    Line {
        what: "is_valid() and fence(), nanoseconds",
        raw: "-".into(),
        glock: format!("{nanos:.1} ns"),
        ratio: nanos,
        budget: LOOK_NANOS_MAX,
        at_most: true,
    }
}
