//! How evenly and how busily sixteen tasks share one lock.

use std::time::Duration;

use glock_core::{Lock, LockExt, Retry};
use glock_testing::History;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::bench::measure::{Budget, Measure, TTL, median};

/// The budget, which the table repeats.
const GRANTS_MIN: f64 = 0.9;
/// The budget, which the table repeats.
const SHARE_MAX: f64 = 1.5;

const TASKS: u32 = 16;
const HOLD: Duration = Duration::from_millis(1);
const RUN: Duration = Duration::from_secs(10);

/// The largest share against the smallest, and the grants a second against what one hand-over
/// after another would give. `hand_over` is the measured one. Panics if two held at a time: grants
/// that overlap are no speed.
pub(super) async fn measure<L: Lock + Clone>(lock: &L, hand_over: Duration) -> [Measure; 2] {
    let (history, until) = (History::new(), Instant::now() + RUN);
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (lock, history) = (lock.clone(), history.clone());
        let who = format!("task {task}");
        tasks.spawn(async move {
            let mut holds = Vec::new();
            while Instant::now() < until {
                let attempt = history.acquiring(&who, "fair");
                let lease = lock.acquire_with_retry("fair", TTL, Retry::within(TTL)).await;
                let lease = lease.expect("a grant");
                let granted_at = Instant::now();
                let hold = attempt.granted(lease.fence().get(), lease.deadline());
                sleep(HOLD).await;
                holds.push(granted_at.elapsed());
                let releasing = hold.releasing();
                lock.release(&lease).await.expect("a lease that holds");
                releasing.released();
            }
            holds
        });
    }
    let holds = tasks.join_all().await;
    history.expect_sound();
    let shares = || holds.iter().map(Vec::len);
    let (least, most) = (shares().min().unwrap_or(0), shares().max().unwrap_or(0));
    let grants = as_f64(shares().sum());
    // A sleep of 1 ms takes a timer's tick longer; what the tasks really held is what counts.
    let hold = median(holds.iter().flatten().copied().collect());
    let ideal = 1.0 / (hold + hand_over).as_secs_f64();
    let grants = grants / RUN.as_secs_f64();
    [
        Measure {
            what: "16 tasks on one lock: largest to smallest share",
            raw: "-".into(),
            glock: format!("{least}..{most}"),
            ratio: as_f64(most) / as_f64(least.max(1)),
            budget: Budget::AtMost(SHARE_MAX),
        },
        Measure {
            what: "16 tasks on one lock: grants to 1/(hold+hand-over)",
            raw: format!("{ideal:.0} /s"),
            glock: format!("{grants:.0} /s"),
            ratio: grants / ideal,
            budget: Budget::AtLeast(GRANTS_MIN),
        },
    ]
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    };

    use glock_core::{
        Capabilities, FencingToken, Holder, Lease, LockError, LockId, OwnerToken, async_trait,
        toolkit::{LockHooks, PendingWork},
    };
    use glock_testing::MemoryLock;

    use super::*;

    /// Grants whatever it is asked for.
    #[derive(Debug, Clone, Default)]
    struct Careless(Arc<AtomicU64>, PendingWork);

    impl LockHooks for Careless {
        fn pending_work(&self) -> &PendingWork {
            &self.1
        }
    }

    #[async_trait]
    impl Lock for Careless {
        fn backend(&self) -> &'static str {
            "careless"
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities::new(HOLD)
        }

        async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
            let fence = FencingToken::new(self.0.fetch_add(1, Relaxed) + 1);
            Ok(Lease::granted(id.clone(), OwnerToken::random()?, fence, Instant::now(), ttl))
        }

        async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
            Ok(lease.renewed(Instant::now(), ttl))
        }

        async fn release(&self, _lease: &Lease) -> Result<(), LockError> {
            Ok(())
        }

        async fn wait(&self, _id: &LockId, _max: Duration) -> Result<(), LockError> {
            Ok(())
        }

        async fn inspect(&self, _id: &LockId) -> Result<Option<Holder>, LockError> {
            Ok(None)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_excludes_is_measured() {
        let [shares, grants] = measure(&MemoryLock::new(), Duration::ZERO).await;
        assert!(shares.holds() && grants.ratio > 0.1, "{} {}", shares.ratio, grants.ratio);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "the history has")]
    async fn holds_that_overlap_are_no_speed() {
        measure(&Careless::default(), Duration::ZERO).await;
    }
}
