//! `Call`: one call to a store, bounded in time and carried to its end whatever its caller does.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{self, Instant},
};

use super::{
    attempt::Attempt, call_deadline::CallDeadline, detach::DetachOnDrop,
    late_request_probe::LateRequestProbe, pending_work::PendingWork,
};
use crate::{Action, BoxError, Fault, Lease, LockError};

/// One call to a store: bounded in time, and never cut off half-way.
///
/// A driver's future that is dropped may have sent its request all the same, and some drivers do
/// not survive it. So a call whose caller stops waiting (the time limit, a dropped future) goes on
/// in the background, for at most its time limit again, and a lock that it takes there is undone.
/// In the usual case nothing is spawned.
#[derive(Debug, Clone)]
pub struct Call {
    pending: PendingWork,
    backend: &'static str,
    action: Action,
    limit: Duration,
}

/// How often one call tries to take a lock.
const TRIES_MAX: u32 = 3;
/// After so many quarters of the time limit no try begins.
const TRIES_QUARTERS: u32 = 3;

impl Call {
    /// A call to `backend` that may take `limit`. `pending` counts what it does in the background to free
    /// a lock.
    pub fn new(
        pending: &PendingWork,
        backend: &'static str,
        action: Action,
        limit: Duration,
    ) -> Self {
        Self { pending: pending.clone(), backend, action, limit }
    }

    /// Until when this call lasts if it begins now, and how long its attempts may take.
    pub fn deadline(&self) -> CallDeadline {
        CallDeadline::after(self.limit)
    }

    /// Runs `work` to its end, and waits for it as long as the time limit allows.
    ///
    /// # Errors
    ///
    /// What `work` returns; [`Fault::Unknown`] once the time is up.
    ///
    /// # Panics
    ///
    /// On a runtime without timers (`enable_time`); the drivers need them as well.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, `work` is carried out in the background.
    pub fn run<T, W>(self, work: W) -> impl Future<Output = Result<T, LockError>> + Send + use<T, W>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, LockError>> + Send + 'static,
    {
        // At once: the drivers' futures are large, and would be moved with each one around them.
        let work = Box::pin(work);
        async move {
            let _under_way = self.frees().then(|| self.pending.begin());
            let then = |_| std::future::ready(());
            let work = DetachOnDrop::new((self.handle()?, self.counted()), self.limit, work, then);
            time::timeout(self.limit, work).await.unwrap_or_else(|_| Err(self.timed_out()))
        }
    }

    /// Runs an attempt to take a lock for `ttl`. A grant that the caller does not learn of is undone.
    /// Where no reply came, the request may still be in flight: then the undo is repeated for one more
    /// time limit.
    ///
    /// # Errors
    ///
    /// What the attempt returns; [`Fault::Unknown`] once the time is up, or if the grant arrived after
    /// its own deadline.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a lock that is granted after the future was dropped is released.
    pub async fn acquire<A: Attempt>(self, ttl: Duration, attempt: A) -> Result<Lease, LockError> {
        self.acquire_within(self.limit, ttl, &Arc::new(attempt)).await
    }

    /// Does what [`acquire`](Self::acquire) does, and tries again where a connection broke. `attempt`
    /// makes each attempt, given how many there were before, with an owner token of its own: a late
    /// request then carries a token that no lease has, and its undo cannot end a later attempt's hold.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), and what `attempt` returns.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe, as [`acquire`](Self::acquire) is.
    pub async fn acquire_retrying<A: Attempt>(
        self,
        ttl: Duration,
        attempt: impl Fn(u32) -> Result<A, LockError>,
    ) -> Result<Lease, LockError> {
        let began = Instant::now();
        let (mut tries, mut ambiguous) = (0, None);
        loop {
            let left = || self.limit.saturating_sub(began.elapsed());
            let attempt = Arc::new(attempt(tries)?);
            let result = self.acquire_within(left(), ttl, &attempt).await;
            tries += 1;
            let Err(err) = result else { return result };
            let unknown = err.fault() == Some(Fault::Unknown);
            let late = began.elapsed() > self.limit / 4 * TRIES_QUARTERS;
            if !unknown || tries >= TRIES_MAX || late {
                // What surely failed this time may have succeeded the time before.
                let sure = !unknown && err.fault().is_some();
                return Err(ambiguous.filter(|_| sure).unwrap_or(err));
            }
            // It may have been granted, and would refuse the next attempt.
            match (Self { limit: left(), ..self.clone() }).run_undo(attempt).await {
                Ok(()) => {}
                Err(LockError::NotHeld { .. }) => ambiguous = Some(err),
                Err(_) => return Err(err),
            }
        }
    }

    /// [`acquire`](Self::acquire) for a caller that waits for `wait`. The undo looks for a late request
    /// for the whole limit.
    async fn acquire_within<A: Attempt>(
        &self,
        wait: Duration,
        ttl: Duration,
        attempt: &Arc<A>,
    ) -> Result<Lease, LockError> {
        let handle = self.handle()?;
        let late = {
            let (call, attempt) = (self.clone(), Arc::clone(attempt));
            move |outcome: Option<Result<Lease, LockError>>| async move {
                match outcome {
                    Some(Ok(_)) => call.undo(attempt, ttl, Duration::ZERO).await,
                    Some(Err(err)) if err.fault() != Some(Fault::Unknown) => {}
                    Some(Err(_)) | None => call.undo(attempt, ttl, call.limit).await,
                }
            }
        };
        let work = {
            let (attempt, until) = (Arc::clone(attempt), CallDeadline::after(wait));
            Box::pin(async move { attempt.run(until).await })
        };
        let work = DetachOnDrop::new((handle, self.counted()), self.limit, work, late);
        match time::timeout(wait, work).await {
            Ok(Ok(lease)) if lease.is_expired() => {
                self.undo_later(attempt, ttl, Duration::ZERO)?;
                Err(self.unknown("the grant arrived after its lease had run out"))
            }
            Ok(Err(err)) if err.fault() == Some(Fault::Unknown) => {
                self.undo_later(attempt, ttl, self.limit)?;
                Err(err)
            }
            Ok(result) => result,
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Spawns [`undo`](Self::undo).
    fn undo_later<A: Attempt>(
        &self,
        attempt: &Arc<A>,
        ttl: Duration,
        in_flight_max: Duration,
    ) -> Result<(), LockError> {
        let (call, attempt, pending) = (self.clone(), Arc::clone(attempt), self.pending.begin());
        self.handle()?.spawn(async move {
            call.undo(attempt, ttl, in_flight_max).await;
            drop(pending);
        });
        Ok(())
    }

    /// Undoes an attempt until the store has confirmed it, or has not had that owner token for
    /// `in_flight_max`, or the lease has run out by itself.
    async fn undo<A: Attempt>(&self, attempt: Arc<A>, ttl: Duration, in_flight_max: Duration) {
        // A request that is in flight for so long begins its lease only then.
        let until = Instant::now().checked_add(in_flight_max.saturating_add(ttl));
        let mut probe = LateRequestProbe::new(in_flight_max);
        loop {
            let sent_at = Instant::now();
            match self.run_undo(Arc::clone(&attempt)).await {
                Ok(()) => return,
                Err(LockError::NotHeld { .. }) if probe.found_nothing(sent_at) => return,
                Err(_) => {}
            }
            if until.is_some_and(|until| probe.next_look() >= until) {
                return;
            }
            probe.pause().await;
        }
    }

    fn run_undo<A: Attempt>(
        &self,
        attempt: Arc<A>,
    ) -> impl Future<Output = Result<(), LockError>> + Send + use<A> {
        let until = self.deadline();
        self.clone().run(async move { attempt.undo(until).await })
    }

    /// What counts this call in the background: not a renewal or a read, which frees no lock.
    fn counted(&self) -> Option<PendingWork> {
        (self.action == Action::Acquire || self.frees()).then(|| self.pending.clone())
    }

    /// Whether it ends a hold.
    fn frees(&self) -> bool {
        matches!(self.action, Action::Release | Action::ForceRelease)
    }

    fn handle(&self) -> Result<Handle, LockError> {
        Handle::try_current()
            .map_err(|err| LockError::backend(self.backend, self.action, Fault::Rejected, err))
    }

    fn timed_out(&self) -> LockError {
        self.unknown(format!("no answer within {:?}", self.limit))
    }

    fn unknown(&self, why: impl Into<BoxError>) -> LockError {
        LockError::backend(self.backend, self.action, Fault::Unknown, why)
    }
}
