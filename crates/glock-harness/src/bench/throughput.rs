//! How many pairs a second 64 tasks manage on locks of their own.

use std::time::Duration;

use glock_core::Lock;
use tokio::{task::JoinSet, time::Instant};

use crate::bench::{
    measure::{Budget, Measure, TTL, id},
    raw::Raw,
};

/// The budget, which the table repeats.
const THROUGHPUT_MIN: f64 = 0.95;

const TASKS: usize = 64;
const ROUND: Duration = Duration::from_secs(1);
const ROUNDS: usize = 7;

/// Rounds of raw and glock alternate; the ratio is the median of the rounds' ratios.
pub(super) async fn measure<L: Lock + Clone, R: Raw>(lock: &L, raw: &R) -> Measure {
    let (mut by_hand, mut by_glock, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=ROUNDS {
        let (one, other) = if round % 2 == 0 {
            let one = raw_round(raw).await;
            (one, glock_pairs_a_second(lock).await)
        } else {
            let other = glock_pairs_a_second(lock).await;
            (raw_round(raw).await, other)
        };
        if round > 0 {
            by_hand.push(one);
            by_glock.push(other);
            ratios.push(other / one);
        }
    }
    Measure {
        what: "throughput, 64 tasks on distinct locks",
        raw: format!("{:.0} /s", middle(by_hand)),
        glock: format!("{:.0} /s", middle(by_glock)),
        ratio: middle(ratios),
        budget: Budget::AtLeast(THROUGHPUT_MIN),
    }
}

/// The middle one.
pub fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

async fn raw_round<R: Raw>(raw: &R) -> f64 {
    let raw = raw.clone();
    round(move |task| {
        let raw = raw.clone();
        let name = format!("raw-{task}");
        async move {
            let grant = raw.acquire(&name).await;
            raw.release(&name, grant).await;
        }
    })
    .await
}

/// Pairs a second of 64 tasks in one round.
///
/// # Panics
///
/// If a lock fails.
pub async fn glock_pairs_a_second<L: Lock + Clone>(lock: &L) -> f64 {
    let lock = lock.clone();
    round(move |task| {
        let lock = lock.clone();
        let id = id(&format!("glock-{task}"));
        async move {
            let lease = lock.acquire(&id, TTL).await.expect("a free lock");
            lock.release(&lease).await.expect("a lease that holds");
        }
    })
    .await
}

/// Pairs a second.
async fn round<F, P>(pair: F) -> f64
where
    F: Fn(usize) -> P + Clone + Send + 'static,
    P: Future<Output = ()> + Send,
{
    let since = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let pair = pair.clone();
        tasks.spawn(async move {
            let mut pairs = 0_u32;
            while since.elapsed() < ROUND {
                pair(task).await;
                pairs += 1;
            }
            pairs
        });
    }
    let pairs: u32 = tasks.join_all().await.into_iter().sum();
    f64::from(pairs) / since.elapsed().as_secs_f64()
}
