//! How evenly and how busily sixteen tasks share one lock.

use std::time::Duration;

use glock_core::{Lock, LockExt, Retry};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{GRANTS_MIN, Line, SHARE_MAX, TTL, median};

const TASKS: u32 = 16;
const HOLD: Duration = Duration::from_millis(1);
const RUN: Duration = Duration::from_secs(10);

/// The largest share against the smallest, and the grants a second against what one hand-over
/// after another would give. `hand_over` is the measured one.
pub(super) async fn measure<L: Lock + Clone>(lock: &L, hand_over: Duration) -> [Line; 2] {
    let until = Instant::now() + RUN;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let lock = lock.clone();
        tasks.spawn(async move {
            let mut holds = Vec::new();
            while Instant::now() < until {
                let lease = lock.acquire_with_retry("fair", TTL, Retry::within(TTL)).await;
                let lease = lease.expect("a grant");
                let granted_at = Instant::now();
                sleep(HOLD).await;
                holds.push(granted_at.elapsed());
                lock.release(&lease).await.expect("a lease that holds");
            }
            holds
        });
    }
    let holds = tasks.join_all().await;
    let shares = || holds.iter().map(Vec::len);
    let (least, most) = (shares().min().unwrap_or(0), shares().max().unwrap_or(0));
    let grants = as_f64(shares().sum());
    // A sleep of 1 ms takes a timer's tick longer; what the tasks really held is what counts.
    let hold = median(holds.iter().flatten().copied().collect());
    let ideal = 1.0 / (hold + hand_over).as_secs_f64();
    let grants = grants / RUN.as_secs_f64();
    [
        Line {
            what: "16 tasks on one lock: largest to smallest share",
            raw: "-".into(),
            glock: format!("{least}..{most}"),
            ratio: as_f64(most) / as_f64(least.max(1)),
            budget: SHARE_MAX,
            at_most: true,
        },
        Line {
            what: "16 tasks on one lock: grants to 1/(hold+hand-over)",
            raw: format!("{ideal:.0} /s"),
            glock: format!("{grants:.0} /s"),
            ratio: grants / ideal,
            budget: GRANTS_MIN,
            at_most: false,
        },
    ]
}

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
