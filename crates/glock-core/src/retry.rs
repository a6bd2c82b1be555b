//! `Retry`: how long and how often to try again; and the loop that does it, for every store.

use std::time::Duration;

use tokio::time::{self, Instant};

use crate::{Event, Lease, Lock, LockError, LockId, Turn, WaitEnd};

/// How long, how often and with which pauses to try again while somebody else holds the lock.
///
/// A waiter is woken by the store where the store can; the pause is the longest that it sleeps
/// without asking.
///
/// ```
/// use std::time::Duration;
/// use glock_core::Retry;
///
/// let patient = Retry::within(Duration::from_secs(5));
/// let go_style = Retry::times(3, Duration::from_millis(200));
/// # assert_eq!(go_style.retries_max, Some(3));
/// # assert_eq!(patient.retries_max, None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// The longest pause between two tries. Default: 5 minutes, because a store's wake-up or the
    /// end of the holder's lease comes first.
    pub pause_max: Duration,
    /// How many tries may follow the first. `None`: as many as the time allows.
    pub retries_max: Option<u32>,
    /// How long to wait in all. `Duration::MAX`: for ever.
    pub wait_max: Duration,
    /// By how much a pause is shortened at random, in percent, so that clients that were turned
    /// away together do not come back together. Default: 20.
    pub jitter_percent: u8,
}

const PAUSE_MAX: Duration = Duration::from_mins(5);
const JITTER_PERCENT: u8 = 20;

impl Retry {
    /// One try and no more.
    pub const NEVER: Self = Self {
        pause_max: PAUSE_MAX,
        retries_max: Some(0),
        wait_max: Duration::ZERO,
        jitter_percent: JITTER_PERCENT,
    };

    /// As many tries as it takes, for as long as it takes.
    pub const FOREVER: Self = Self { retries_max: None, wait_max: Duration::MAX, ..Self::NEVER };

    /// As many tries as fit into `wait_max`. The last one may take a call's time limit longer.
    pub const fn within(wait_max: Duration) -> Self {
        Self { wait_max, ..Self::FOREVER }
    }

    /// At most `retries_max` more tries, with a pause of at most `pause_max` before each. A count
    /// of tries and a place in line do not go together: such a caller does not queue.
    pub const fn times(retries_max: u32, pause_max: Duration) -> Self {
        Self { retries_max: Some(retries_max), pause_max, ..Self::FOREVER }
    }

    /// Sets [`pause_max`](Self::pause_max).
    #[must_use]
    pub const fn with_pause_max(mut self, pause_max: Duration) -> Self {
        self.pause_max = pause_max;
        self
    }

    /// Sets [`wait_max`](Self::wait_max).
    #[must_use]
    pub const fn with_wait_max(mut self, wait_max: Duration) -> Self {
        self.wait_max = wait_max;
        self
    }

    /// Sets [`jitter_percent`](Self::jitter_percent).
    #[must_use]
    pub const fn with_jitter_percent(mut self, jitter_percent: u8) -> Self {
        self.jitter_percent = jitter_percent;
        self
    }

    /// Checks that waiting this way can work.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a pause of zero, which would hammer the store, or a jitter of
    /// more than 100 %.
    pub fn check(&self) -> Result<(), LockError> {
        if self.pause_max.is_zero() {
            return Err(LockError::invalid("retry", "`pause_max` is zero; give at least 1 ms"));
        }
        if self.jitter_percent > 100 {
            return Err(LockError::invalid("retry", "`jitter_percent` is over 100"));
        }
        Ok(())
    }

    /// The next pause: `pause_max`, shortened at random by up to `jitter_percent`.
    pub fn pause(&self) -> Duration {
        // A day is as good as for ever, and no clock overflows on it.
        let pause = self.pause_max.min(Duration::from_hours(24));
        let pause = pause.saturating_sub(random_part(pause * u32::from(self.jitter_percent) / 100));
        // None at all would read as "no time left".
        pause.max(Duration::from_nanos(1))
    }
}

/// A random part of `of`, from nothing to all of it.
fn random_part(of: Duration) -> Duration {
    // Without random numbers the pauses are merely alike.
    let random = getrandom::u32().unwrap_or(0);
    of.mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Tries, sleeps in [`Lock::wait`] and tries again until the lock is granted or `retry` says to
/// stop. This is [`Lock::acquire_within`] for stores without a queue of their own; wrappers of
/// such stores call it on themselves, so that they see each try.
///
/// # Errors
///
/// As [`Lock::acquire_within`].
///
/// # Cancel safety
///
/// Cancel safe.
pub async fn acquire_in_turn<L: Lock + ?Sized>(
    lock: &L,
    id: &LockId,
    ttl: Duration,
    retry: &Retry,
) -> Result<Lease, LockError> {
    retry.check()?;
    lock.capabilities().ttl(ttl)?;
    let mut report = Report { lock, id, started: Instant::now(), end: WaitEnd::Cancelled };
    let result = Waiter::new(lock, id, retry, report.started).acquire(ttl).await;
    report.end = match &result {
        Ok(_) => WaitEnd::Granted,
        Err(err) if err.is_retryable() => WaitEnd::GaveUp,
        Err(_) => WaitEnd::Failed,
    };
    result
}

/// Tells the lock how a wait ended, when it is dropped: so a cancelled one is told too.
struct Report<'a, L: Lock + ?Sized> {
    lock: &'a L,
    id: &'a LockId,
    started: Instant,
    end: WaitEnd,
}

impl<L: Lock + ?Sized> Drop for Report<'_, L> {
    fn drop(&mut self) {
        let waited = self.started.elapsed();
        self.lock.observe(&Event::Waited { id: self.id, waited, end: self.end });
    }
}

struct Waiter<'a, L: ?Sized> {
    lock: &'a L,
    id: &'a LockId,
    retry: &'a Retry,
    started: Instant,
    /// `None`: no limit.
    deadline: Option<Instant>,
    /// How often the store failed since it last answered.
    failures: u32,
    /// How often `wait` came straight back.
    restless: u32,
}

/// A wait that was shorter came back at once.
const RESTLESS: Duration = Duration::from_millis(1);
/// So many short waits in a row are normal under contention; from then on they are spread.
const RESTLESS_MAX: u32 = 3;
/// The first and longest pause while the store fails.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(2);

impl<'a, L: Lock + ?Sized> Waiter<'a, L> {
    fn new(lock: &'a L, id: &'a LockId, retry: &'a Retry, started: Instant) -> Self {
        let deadline = started.checked_add(retry.wait_max);
        Self { lock, id, retry, started, deadline, failures: 0, restless: 0 }
    }

    async fn acquire(&mut self, ttl: Duration) -> Result<Lease, LockError> {
        let queue = self.lock.queue().filter(|_| self.retry.retries_max.is_none());
        let turn = match queue {
            Some(queue) => Some(self.in_time(queue.turn(self.id)).await?),
            None => None,
        };
        // Whoever was in line before has most likely just taken the lock: sleep first.
        let mut try_first = !turn.as_ref().is_some_and(Turn::queued);
        let mut retries = 0;
        loop {
            let mut failed = None;
            if try_first {
                match self.lock.acquire(self.id, ttl).await {
                    Err(err) if err.is_retryable() => failed = Some(err),
                    result => return result,
                }
                if self.retry.retries_max.is_some_and(|max| retries >= max) {
                    return failed.map_or_else(|| Err(self.timed_out()), Err);
                }
                retries += 1;
            }
            try_first = true;
            let pause = self.left().min(self.retry.pause());
            if pause.is_zero() {
                // A store that fails says more than the clock.
                let store = failed.filter(|err| err.fault().is_some());
                return Err(store.unwrap_or_else(|| self.timed_out()));
            }
            self.sleep(pause, failed.as_ref()).await;
        }
    }

    async fn sleep(&mut self, pause: Duration, failed: Option<&LockError>) {
        if failed.is_some_and(|err| err.fault().is_some()) {
            return self.back_off(pause).await;
        }
        let asleep = Instant::now();
        if self.lock.wait(self.id, pause).await.is_err() {
            return self.back_off(pause.saturating_sub(asleep.elapsed())).await;
        }
        self.failures = 0;
        self.restless = if asleep.elapsed() < RESTLESS { self.restless + 1 } else { 0 };
        if self.restless > RESTLESS_MAX {
            let spread = RESTLESS * (1 << (self.restless - RESTLESS_MAX).min(6));
            time::sleep(random_part(spread).min(pause)).await;
        }
    }

    async fn back_off(&mut self, pause: Duration) {
        let back_off = FAILURE_PAUSE.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        let back_off = back_off.min(FAILURE_PAUSE_MAX).min(pause);
        time::sleep(back_off.saturating_sub(random_part(back_off / 4))).await;
    }

    fn left(&self) -> Duration {
        self.deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }

    async fn in_time<T>(&self, future: impl Future<Output = T>) -> Result<T, LockError> {
        match self.deadline {
            Some(at) => time::timeout_at(at, future).await.map_err(|_| self.timed_out()),
            None => Ok(future.await),
        }
    }

    fn timed_out(&self) -> LockError {
        LockError::Timeout { id: self.id.clone(), waited: self.started.elapsed() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_shortened_by_the_jitter_and_no_more() {
        let retry = Retry::FOREVER.with_pause_max(Duration::from_secs(10));
        for _ in 0..1_000 {
            let pause = retry.pause();
            assert!((8..=10).contains(&pause.as_secs()), "{pause:?}");
        }
        assert_eq!(retry.with_jitter_percent(0).pause(), Duration::from_secs(10));
        assert!(Retry::FOREVER.with_pause_max(Duration::MAX).pause() > Duration::from_hours(1));
        let short = retry.with_pause_max(Duration::from_nanos(2)).with_jitter_percent(100);
        assert!((0..100).all(|_| !short.pause().is_zero()));
    }

    #[test]
    fn what_would_hammer_the_store_is_refused() {
        assert!(Retry::times(3, Duration::ZERO).check().is_err());
        assert!(Retry::FOREVER.with_jitter_percent(101).check().is_err());
        for good in [Retry::NEVER, Retry::FOREVER, Retry::within(Duration::ZERO)] {
            assert!(good.check().is_ok());
        }
    }
}
