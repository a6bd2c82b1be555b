//! `Call`: one call to a store, bounded in time and carried to its end whatever its caller does.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{self, Instant},
};

use super::{
    attempt::Attempt, call_deadline::CallDeadline, detach::DetachOnDrop,
    late_request_probe::LateRequestProbe, pending_work::PendingWork, placed::Placed, tried::Tried,
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
    /// Where it runs, if not on its caller's runtime.
    runtime: Option<Handle>,
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
        Self { pending: pending.clone(), backend, action, limit, runtime: None }
    }

    /// Runs the call, and what undoes it, on that runtime: for a driver whose connections would stand
    /// still with a caller that computes, for all others as well. The caller only waits for the outcome.
    #[must_use]
    pub fn on(self, runtime: &Handle) -> Self {
        Self { runtime: Some(runtime.clone()), ..self }
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
            let handle = self.handle()?;
            let work = Placed::on(self.runtime.as_ref(), work);
            let then = |_| std::future::ready(());
            let work = DetachOnDrop::new((handle, self.counted()), self.limit, work, then);
            let ended = time::timeout(self.limit, work).await.map_err(|_| self.timed_out())?;
            ended.unwrap_or_else(|| Err(self.runtime_ended()))
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
        self.acquire_within(self.limit, ttl, &Arc::new(Tried::new(attempt))).await
    }

    /// Does what [`acquire`](Self::acquire) does, and tries again where a connection broke. `attempt`
    /// makes each attempt, given how many there were before, with an owner token of its own: a late
    /// request then carries a token that no lease has, and its undo cannot end a later attempt's hold.
    /// An attempt that is refused because an earlier one arrived late is tried again as well.
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
        let mut tries = 0;
        let (mut earlier, mut ambiguous) = (Vec::<Arc<Tried<A>>>::new(), None);
        loop {
            let left =
                || Self { limit: self.limit.saturating_sub(began.elapsed()), ..self.clone() };
            let latest = Arc::new(Tried::new(attempt(tries)?));
            let result = self.acquire_within(left().limit, ttl, &latest).await;
            tries += 1;
            let Err(err) = result else { return result };
            let late = began.elapsed() > self.limit / 4 * TRIES_QUARTERS;
            let is_last = tries >= TRIES_MAX || late;
            let unknown = err.fault() == Some(Fault::Unknown);
            if matches!(err, LockError::Held { .. }) {
                // By an earlier attempt, if that has arrived since it was undone.
                match left().undo_earlier(&mut earlier).await {
                    Ok(false) => return Err(err),
                    Ok(true) if !is_last => continue,
                    Ok(true) | Err(_) => return Err(ambiguous.unwrap_or(err)),
                }
            }
            if !unknown || is_last {
                // What surely failed this time may have succeeded the time before.
                let sure = !unknown && err.fault().is_some();
                return Err(ambiguous.filter(|_| sure).unwrap_or(err));
            }
            // It may have been granted, and would refuse the next attempt.
            match left().run_undo(Arc::clone(&latest)).await {
                Ok(()) => {}
                Err(LockError::NotHeld { .. }) => {
                    earlier.push(latest);
                    ambiguous = Some(err);
                }
                Err(_) => return Err(err),
            }
        }
    }

    /// Undoes what was tried before. Returns whether any of it had the lock until now, or until its undo
    /// in the background; that one is taken out.
    async fn undo_earlier<A: Attempt>(
        &self,
        earlier: &mut Vec<Arc<Tried<A>>>,
    ) -> Result<bool, LockError> {
        for tried in &*earlier {
            match self.run_undo(Arc::clone(tried)).await {
                Ok(()) | Err(LockError::NotHeld { .. }) => {}
                Err(err) => return Err(err),
            }
        }
        let before = earlier.len();
        earlier.retain(|tried| !tried.was_undone());
        Ok(earlier.len() < before)
    }

    /// [`acquire`](Self::acquire) for a caller that waits for `wait`. The undo looks for a late request
    /// for the whole limit.
    async fn acquire_within<A: Attempt>(
        &self,
        wait: Duration,
        ttl: Duration,
        attempt: &Arc<Tried<A>>,
    ) -> Result<Lease, LockError> {
        let handle = self.handle()?;
        let late = {
            let (call, attempt) = (self.clone(), Arc::clone(attempt));
            move |outcome: Option<Option<Result<Lease, LockError>>>| async move {
                match outcome.flatten() {
                    Some(Ok(_)) => call.undo(attempt, ttl, Duration::ZERO).await,
                    Some(Err(err)) if err.fault() != Some(Fault::Unknown) => {}
                    Some(Err(_)) | None => call.undo(attempt, ttl, call.limit).await,
                }
            }
        };
        let work = {
            let (attempt, until) = (Arc::clone(attempt), CallDeadline::after(wait));
            let work = Box::pin(async move { attempt.run(until).await });
            Placed::on(self.runtime.as_ref(), work)
        };
        let work = DetachOnDrop::new((handle, self.counted()), self.limit, work, late);
        let ended = time::timeout(wait, work).await.map_err(|_| self.timed_out())?;
        match ended.unwrap_or_else(|| Err(self.runtime_ended())) {
            Ok(lease) if lease.is_expired() => {
                self.undo_later(attempt, ttl, Duration::ZERO)?;
                Err(self.unknown("the grant arrived after its lease had run out"))
            }
            Err(err) if err.fault() == Some(Fault::Unknown) => {
                self.undo_later(attempt, ttl, self.limit)?;
                Err(err)
            }
            result => result,
        }
    }

    /// Spawns [`undo`](Self::undo).
    fn undo_later<A: Attempt>(
        &self,
        attempt: &Arc<Tried<A>>,
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
    async fn undo<A: Attempt>(
        &self,
        attempt: Arc<Tried<A>>,
        ttl: Duration,
        in_flight_max: Duration,
    ) {
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
        attempt: Arc<Tried<A>>,
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

    /// Where what the caller gave up goes on. The caller needs a runtime as well, for the time limit.
    fn handle(&self) -> Result<Handle, LockError> {
        let caller = Handle::try_current()
            .map_err(|err| LockError::backend(self.backend, self.action, Fault::Rejected, err))?;
        Ok(self.runtime.clone().unwrap_or(caller))
    }

    fn runtime_ended(&self) -> LockError {
        self.unknown("the runtime of the lock's connections has ended")
    }

    fn timed_out(&self) -> LockError {
        self.unknown(format!("no answer within {:?}", self.limit))
    }

    fn unknown(&self, why: impl Into<BoxError>) -> LockError {
        LockError::backend(self.backend, self.action, Fault::Unknown, why)
    }
}
