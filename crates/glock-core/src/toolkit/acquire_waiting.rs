//! `acquire_waiting`: waits for a lock, in the store's queue or by trying again.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{backoff::Backoff, spurious_wakeups::SpuriousWakeups, wait_queue::QueuePermit};
use crate::{Event, Lease, Lock, LockError, LockId, Retry, WaitEnd, contract::random_part};

/// Waits for the lock until it is granted or `retry` says to stop: in the queue that the store keeps,
/// or by trying, sleeping in [`Lock::wait`] and trying again. Reports the wait to the lock.
pub(crate) async fn acquire_waiting<L: Lock + ?Sized>(
    lock: &L,
    id: &LockId,
    ttl: Duration,
    retry: &Retry,
) -> Result<Lease, LockError> {
    retry.check()?;
    let ttl = lock.capabilities().ttl(ttl)?;
    let mut report = Report { lock, id, started: Instant::now(), end: WaitEnd::Cancelled };
    // A caller that counts tries does not queue, not even where the store has a queue.
    let queued =
        if retry.retries_max.is_none() { lock.acquire_queued(id, ttl, retry) } else { None };
    let result = match queued {
        Some(queued) => queued.await,
        None => Waiter::new(lock, id, retry, report.started).acquire(ttl).await,
    };
    report.end = match &result {
        Ok(_) => WaitEnd::Granted,
        Err(err) if err.is_retryable() => WaitEnd::GaveUp,
        Err(_) => WaitEnd::Failed,
    };
    result
}

/// Reports to the lock how a wait ended, when it is dropped: so a cancelled wait is reported too.
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
    /// The pauses while the store fails.
    backoff: Backoff,
    spurious_wakeups: SpuriousWakeups,
}

impl<'a, L: Lock + ?Sized> Waiter<'a, L> {
    fn new(lock: &'a L, id: &'a LockId, retry: &'a Retry, started: Instant) -> Self {
        let deadline = started.checked_add(retry.wait_max);
        Self {
            lock,
            id,
            retry,
            started,
            deadline,
            backoff: Backoff::STORE_FAILURE,
            spurious_wakeups: SpuriousWakeups::default(),
        }
    }

    async fn acquire(&mut self, ttl: Duration) -> Result<Lease, LockError> {
        let queue = self.lock.queue().filter(|_| self.retry.retries_max.is_none());
        let permit = match queue {
            Some(queue) => Some(self.in_time(queue.permit(self.id)).await?),
            None => None,
        };
        // The waiter before this one has most likely just taken the lock: sleep first.
        let mut try_first = !permit.as_ref().is_some_and(QueuePermit::waited);
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
        self.backoff.reset();
        self.spurious_wakeups.spread(asleep, pause).await;
    }

    async fn back_off(&mut self, pause: Duration) {
        let pause = self.backoff.next_pause().min(pause);
        time::sleep(pause.saturating_sub(random_part(pause / 4))).await;
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
