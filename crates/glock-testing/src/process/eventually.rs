//! Waits until something has become so, and says what has not when it does not.

use std::fmt::Debug;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// Waits until `condition` holds: asks at once, then again and again until `limit` has passed.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// # use std::time::Duration;
/// use glock_testing::process::eventually;
///
/// let mut asked = 0;
/// eventually("it has been asked three times", Duration::from_secs(5), async || {
///     asked += 1;
///     asked == 3
/// })
/// .await;
/// # });
/// ```
///
/// # Panics
///
/// When `limit` has passed, with `what`, and with the caller's place in the source. A condition that hangs is no excuse.
///
/// # Cancel safety
///
/// Dropped early, it drops the condition with it.
#[track_caller]
pub fn eventually(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let place = Location::caller();
    async move {
        let deadline = Instant::now() + limit;
        let (mut pause, mut asked) = (PAUSE_MIN, 0);
        loop {
            asked += 1;
            match timeout_at(deadline, condition()).await.ok() {
                Some(true) => return,
                Some(false) if Instant::now() < deadline => {}
                Some(false) => {
                    panic!("not within {limit:?}: {what} (asked {asked} times, {place})")
                }
                None => {
                    panic!("not within {limit:?}: {what} (no answer to question {asked}, {place})")
                }
            }
            sleep(pause).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
    }
}

/// Waits until `measure` has come down to `baseline` or below, as a count of something that must not leak does.
///
/// # Panics
///
/// When `limit` has passed, with `what`, the baseline and the last measure, and with the caller's place in the source.
///
/// # Cancel safety
///
/// Dropped early, it drops the measure with it.
#[track_caller]
pub fn settles<T: PartialOrd + Debug>(
    what: &str,
    limit: Duration,
    baseline: T,
    mut measure: impl AsyncFnMut() -> T,
) -> impl Future<Output = ()> {
    let place = Location::caller();
    async move {
        let deadline = Instant::now() + limit;
        let mut pause = PAUSE_MIN;
        let mut last = None;
        loop {
            match timeout_at(deadline, measure()).await {
                Ok(value) if value <= baseline => return,
                Ok(value) => last = Some(value),
                Err(_) => {}
            }
            if Instant::now() >= deadline {
                let last = last.map_or_else(|| "unknown".to_owned(), |value| format!("{value:?}"));
                panic!(
                    "{what}: not back to {baseline:?} within {limit:?}, but at {last} ({place})"
                );
            }
            sleep(pause).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
    }
}

/// Waits until `measure` has returned the same for as long as `still`, and returns that: a baseline, taken after what a burst
/// has begun is over.
///
/// # Panics
///
/// When `limit` has passed, with `what` and the last measure, and with the caller's place in the source.
///
/// # Cancel safety
///
/// Dropped early, it drops the measure with it.
#[track_caller]
pub fn rests<T: PartialEq + Debug>(
    what: &str,
    still: Duration,
    limit: Duration,
    mut measure: impl FnMut() -> T,
) -> impl Future<Output = T> {
    let place = Location::caller();
    async move {
        let deadline = Instant::now() + limit;
        let (mut last, mut since) = (measure(), Instant::now());
        while since.elapsed() < still {
            assert!(
                Instant::now() < deadline,
                "{what}: not the same for {still:?} within {limit:?}, but at {last:?} ({place})"
            );
            sleep(PAUSE_MAX).await;
            let now = measure();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        last
    }
}
