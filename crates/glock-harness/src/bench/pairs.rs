//! How long an acquire and its release take, one after the other on a warm connection.

use glock_core::Lock;

use crate::bench::{
    measure::{Budget, Measure, TTL, id, median, micros, timed},
    raw::Raw,
};

/// The budget, which the table repeats.
const PAIR_MAX: f64 = 1.05;

const WARM_UP: usize = 500;
const PAIRS: usize = 4_000;

/// Raw and glock take turns pair by pair, so that both see the same machine.
pub(super) async fn measure<L: Lock, R: Raw>(lock: &L, raw: &R) -> Measure {
    let (mut by_hand, mut by_glock) = (Vec::new(), Vec::new());
    let id = id("pair");
    for turn in 0..WARM_UP + PAIRS {
        let one = timed(async {
            let grant = raw.acquire("pair-raw").await;
            raw.release("pair-raw", grant).await;
        });
        let other = timed(async {
            let lease = lock.acquire(&id, TTL).await.expect("a free lock");
            lock.release(&lease).await.expect("a lease that holds");
        });
        // Who goes first changes, so that neither profits from a warm cache.
        let (one, other) = if turn % 2 == 0 {
            let one = one.await;
            (one, other.await)
        } else {
            let other = other.await;
            (one.await, other)
        };
        if turn >= WARM_UP {
            by_hand.push(one);
            by_glock.push(other);
        }
    }
    let (one, other) = (median(by_hand), median(by_glock));
    Measure {
        what: "acquire + release, median",
        raw: micros(one),
        glock: micros(other),
        ratio: other.as_secs_f64() / one.as_secs_f64(),
        budget: Budget::AtMost(PAIR_MAX),
    }
}
