//! `acquire_queued`: the loop of a waiter in a queue that the store keeps.

use std::time::Duration;

use tokio::time::{self, Instant};

use super::{
    backoff::Backoff,
    spurious_wakeups::SpuriousWakeups,
    wait_queue::{QueuePermit, WaitQueue},
};
use crate::{Lease, LockError, LockId, Retry};

/// A queue that the store keeps for one lock, as one waiter sees it: what [`acquire_queued`] needs.
pub trait ServerQueue: Send + Sync {
    /// This waiter's entry in the queue. Dropping it leaves the queue, in the background where that
    /// takes a request.
    type Entry: Send;

    /// Whether other waiters of this client are in the queue, so that a try would be refused.
    fn has_local_waiters(&self) -> bool;

    /// Tries once to take the lock without joining the queue. The time limit of the wait does not cut
    /// it short.
    ///
    /// # Errors
    ///
    /// As [`Lock::acquire`](crate::Lock::acquire).
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe, as [`Lock::acquire`](crate::Lock::acquire) is.
    fn try_acquire(&self) -> impl Future<Output = Result<Lease, LockError>> + Send;

    /// Joins the queue behind all other waiters. Bound it in time, by [`Call`](super::Call): this
    /// client's other waiters for the lock join only once it has returned.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed; the waiter then joins again.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: the future is dropped when the time is up. An entry that its request makes
    /// all the same leaves the queue.
    fn join(&self) -> impl Future<Output = Result<Self::Entry, LockError>> + Send;

    /// Waits until the entry moves up in the queue, and takes the lock when it is the first. May
    /// return early; it returns [`QueueStep::Lost`], and no error, once its session has ended.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed. The waiter keeps its entry and calls again after a
    /// pause, unless the fault is [`Rejected`](crate::Fault::Rejected).
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: the future is dropped when the time is up. A grant that arrives then is
    /// undone, as by [`Call::acquire`](super::Call::acquire).
    fn next(
        &self,
        entry: &mut Self::Entry,
    ) -> impl Future<Output = Result<QueueStep, LockError>> + Send;
}

/// What became of a waiter in the store's queue.
#[derive(Debug)]
pub enum QueueStep {
    /// It has the lock.
    Granted(Lease),
    /// It is still in the queue.
    Waiting,
    /// Its entry is gone, with its session or by an operator. It joins again, behind all others.
    Lost,
}

impl QueueStep {
    /// What became of a waiter that tried to take the lock and keeps its entry where that was refused.
    ///
    /// # Errors
    ///
    /// Any other failure of the try.
    pub fn of_try(tried: Result<Lease, LockError>) -> Result<Self, LockError> {
        match tried {
            Ok(lease) => Ok(Self::Granted(lease)),
            Err(LockError::Held { .. }) => Ok(Self::Waiting),
            Err(err) => Err(err),
        }
    }
}

/// For how long a waiter lets the one before it join: longer than that takes. One whose program does not poll it
/// while it joins would hold up all others of its client.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);

/// Waits in a queue that the store keeps, until the lock is granted or the time of `retry` is up.
///
/// `arrivals` is the client's own queue. A waiter keeps its permit until it has joined the store's
/// queue, so that the store's order is that of the callers.
///
/// # Errors
///
/// [`LockError::Timeout`] when the time is up, or the store's failure if that was the last thing seen;
/// what [`ServerQueue`] returns and another try cannot mend.
///
/// # Cancel safety
///
/// Cancel safe if the queue's entry is: dropping the future drops the entry.
pub async fn acquire_queued<Q: ServerQueue>(
    queue: &Q,
    arrivals: &WaitQueue,
    id: &LockId,
    retry: &Retry,
) -> Result<Lease, LockError> {
    let started = Instant::now();
    let deadline = started.checked_add(retry.wait_max);
    let mut waiter = Waiter {
        queue,
        arrivals,
        id,
        failed: None,
        backoff: Backoff::STORE_FAILURE,
        spurious_wakeups: SpuriousWakeups::default(),
    };
    let granted = match in_time(deadline, waiter.arrive()).await {
        Some(permit) => waiter.acquire(permit, deadline).await,
        None => None,
    };
    granted.unwrap_or_else(|| {
        // A store that fails says more than the clock.
        let store = waiter.failed.take().filter(|err| err.fault().is_some());
        let timeout = || LockError::Timeout { id: id.clone(), waited: started.elapsed() };
        Err(store.unwrap_or_else(timeout))
    })
}

struct Waiter<'a, Q> {
    queue: &'a Q,
    arrivals: &'a WaitQueue,
    id: &'a LockId,
    /// The store's failure, if it has not answered since.
    failed: Option<LockError>,
    backoff: Backoff,
    spurious_wakeups: SpuriousWakeups,
}

impl<Q: ServerQueue> Waiter<'_, Q> {
    /// `None` once the time is up.
    async fn acquire(
        &mut self,
        permit: Option<QueuePermit>,
        deadline: Option<Instant>,
    ) -> Option<Result<Lease, LockError>> {
        let has_waited = permit.as_ref().is_none_or(QueuePermit::waited);
        if !has_waited && !self.queue.has_local_waiters() {
            match self.queue.try_acquire().await {
                Err(LockError::Held { .. }) => {}
                Err(err) if err.is_retryable() => self.failed = Some(err),
                result => return Some(result),
            }
        }
        if deadline.is_some_and(|at| at <= Instant::now()) {
            return None;
        }
        in_time(deadline, self.stay_in_queue(permit)).await
    }

    /// Joins the queue, again whenever its entry is lost, until it has the lock. The permit is kept until the store's
    /// queue has this waiter.
    async fn stay_in_queue(&mut self, mut permit: Option<QueuePermit>) -> Result<Lease, LockError> {
        loop {
            let joined = self.queue.join().await;
            drop(permit);
            match joined {
                Ok(entry) => {
                    self.answered();
                    if let Some(lease) = self.stay_until_lost(entry).await? {
                        return Ok(lease);
                    }
                }
                Err(err) => self.back_off(err).await?,
            }
            permit = self.arrive().await;
        }
    }

    /// `None` once the entry is lost.
    async fn stay_until_lost(&mut self, mut entry: Q::Entry) -> Result<Option<Lease>, LockError> {
        loop {
            let asleep = Instant::now();
            let step = match self.queue.next(&mut entry).await {
                Ok(QueueStep::Granted(lease)) => return Ok(Some(lease)),
                Ok(step) => step,
                Err(err) => {
                    self.back_off(err).await?;
                    continue;
                }
            };
            let is_lost = matches!(step, QueueStep::Lost);
            // It may be lost because the store failed, which the time limit then reports.
            if !is_lost {
                self.answered();
            }
            self.spurious_wakeups.spread(asleep, Duration::MAX).await;
            if is_lost {
                return Ok(None);
            }
        }
    }

    /// Waits for those before this one to join. `None`: the first of them does not get on.
    async fn arrive(&self) -> Option<QueuePermit> {
        self.arrivals.permit_unless_stuck(self.id, ARRIVAL_MAX).await
    }

    fn answered(&mut self) {
        self.failed = None;
        self.backoff.reset();
    }

    /// Pauses after a failure that another try may mend; returns any other.
    async fn back_off(&mut self, err: LockError) -> Result<(), LockError> {
        if !err.is_retryable() {
            return Err(err);
        }
        self.failed = Some(err);
        time::sleep(self.backoff.next_jittered()).await;
        Ok(())
    }
}

/// `None` once it is too late.
async fn in_time<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => time::timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}
