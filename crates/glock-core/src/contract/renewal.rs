//! `Renewal`: the task that keeps a guard's lease alive, once for every store.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use super::{
    end_watch::EndWatch,
    hold::{ReleaseRequest, Shared, loss_lead},
};
use crate::{
    Event, Lease, Lock, LockError, LossReason,
    toolkit::{Backoff, CallDeadline, hedged_with},
};

/// A lease is renewed when a third of it has passed, so that two renewals may fail.
const RENEW_AFTER: u32 = 3;
/// The first pause after a renewal or release that failed, as a part of the TTL; it doubles.
const PAUSE_PART: u32 = 64;
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_secs(5);

pub(crate) struct Renewal<L: Lock> {
    lock: Arc<L>,
    lease: Lease,
    /// What each renewal requests.
    ttl: Duration,
    renew_at: Instant,
    shared: Arc<Shared>,
    /// Whether the end of the hold was reported.
    reported: bool,
}

/// How a hold ends.
enum End {
    /// The guard was released or dropped.
    Released(Box<ReleaseRequest>),
    Lost(LossReason),
}

impl<L: Lock> Renewal<L> {
    pub(crate) fn new(lock: L, lease: Lease, ttl: Duration, shared: Arc<Shared>) -> Self {
        let renew_at = renew_at(&lease);
        lock.observe(&Event::HoldStarted { id: lease.id() });
        Self { lock: Arc::new(lock), lease, ttl, renew_at, shared, reported: false }
    }

    #[allow(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let (lost, request) = match self.keep().await {
                End::Released(request) => (self.end(None), request),
                End::Lost(reason) => {
                    let lost = self.end(Some(reason));
                    // The holder may still be at work: free the lock only once the guard is gone.
                    (lost, self.shared.release_requested().await)
                }
            };
            Box::pin(self.release(lost, *request)).await;
        }
    }

    /// Keeps the lease alive until the guard is released or the lock is lost. What it does seldom is
    /// in a box, so that a held lock is small between its renewals.
    async fn keep(&mut self) -> End {
        let mut end_watch = EndWatch::of(&self.lock, &self.lease);
        loop {
            if let Some(request) = self.shared.release_request() {
                return End::Released(request);
            }
            let hold_until = self.shared.hold_until();
            let wake_at = hold_until.map_or(self.renew_at, |until| until.min(self.renew_at));
            tokio::select! {
                biased;
                () = self.shared.changed.notified() => continue,
                () = end_watch.ended() => return End::Lost(LossReason::TakenAway),
                () = over_or_at(&self.lease, wake_at) => {}
            }
            let now = Instant::now();
            let renewed = if loss_at(&self.lease) <= now {
                return End::Lost(LossReason::Expired);
            } else if hold_until.is_some_and(|until| until <= now) {
                Box::pin(self.run_out(&mut end_watch)).await
            } else if self.renew_at <= now {
                Box::pin(self.renew(&mut end_watch)).await
            } else {
                continue;
            };
            if let Err(end) = renewed {
                return end;
            }
            if !end_watch.is_of(&self.lease) {
                end_watch = EndWatch::of(&self.lock, &self.lease);
            }
        }
    }

    /// Renews the lease, and tries again until its deadline.
    async fn renew(&mut self, end_watch: &mut EndWatch) -> Result<(), End> {
        let mut pauses = pauses(self.ttl);
        loop {
            let hold_until = self.shared.hold_until();
            if hold_until.is_some_and(|until| until <= Instant::now()) {
                return Ok(());
            }
            let renewed = tokio::select! {
                biased;
                request = self.shared.release_requested() => return Err(End::Released(request)),
                () = end_watch.ended() => return Err(End::Lost(LossReason::TakenAway)),
                () = over(&self.lease) => return Err(End::Lost(LossReason::Expired)),
                renewed = Box::pin(send(&*self.lock, &self.lease, self.ttl)) => renewed,
            };
            if let Some(reason) = self.shared.lost() {
                // Reported just before the deadline, and not revoked by a reply that came then.
                return Err(End::Lost(reason));
            }
            match renewed {
                Ok(lease) if lease.is_expired() => return Err(End::Lost(LossReason::Expired)),
                // The request was sent before `max_hold` ran out, and the reply came after.
                Ok(_) if self.shared.hold_until().is_some_and(|until| until <= Instant::now()) => {
                    return Ok(());
                }
                Ok(lease) => {
                    let margin = self.lease.remaining();
                    self.renew_at = renew_at(&lease);
                    self.lease = lease;
                    self.shared.extend(&self.lease);
                    self.lock.observe(&Event::Renewed { id: self.lease.id(), margin });
                    return Ok(());
                }
                Err(LockError::NotHeld { .. }) => return Err(End::Lost(LossReason::TakenAway)),
                Err(_) => {}
            }
            let again_at = Instant::now() + pauses.next_pause();
            tokio::select! {
                biased;
                request = self.shared.release_requested() => return Err(End::Released(request)),
                () = end_watch.ended() => return Err(End::Lost(LossReason::TakenAway)),
                () = over(&self.lease) => return Err(End::Lost(LossReason::Expired)),
                () = time::sleep_until(hold_until.map_or(again_at, |until| until.min(again_at))) => {}
            }
        }
    }

    /// Lets the lease of a holder that is stuck run out.
    async fn run_out(&mut self, end_watch: &mut EndWatch) -> Result<(), End> {
        tokio::select! {
            biased;
            // The guard is released, or `with_max_hold` was called again, with a longer time.
            () = self.shared.changed.notified() => Ok(()),
            () = end_watch.ended() => Err(End::Lost(LossReason::TakenAway)),
            () = over(&self.lease) => Err(End::Lost(self.shared.run_out())),
        }
    }

    /// Releases the lock, unless it was taken away. The guard receives the first reply; a failure is tried
    /// again until the lease has run out by itself.
    async fn release(&mut self, lost: Option<LossReason>, request: ReleaseRequest) {
        let ReleaseRequest { mut reply, pending } = request;
        if lost.is_some() {
            send_reply(&mut reply, Err(self.shared.not_held()));
        }
        let give_up = Instant::now() + self.lease.ttl();
        let mut pauses = pauses(self.ttl);
        while lost != Some(LossReason::TakenAway) {
            let released = self.lock.release(&self.lease).await;
            let again = released.as_ref().is_err_and(LockError::is_retryable);
            send_reply(&mut reply, released);
            if !again || Instant::now() + pauses.peek() >= give_up {
                break;
            }
            pauses.sleep().await;
        }
        // Counted until here.
        drop(pending);
    }

    /// Ends the hold and reports it once.
    fn end(&mut self, end: Option<LossReason>) -> Option<LossReason> {
        let lost = self.shared.end(end);
        if !std::mem::replace(&mut self.reported, true) {
            let held = self.shared.held();
            self.lock.observe(&Event::HoldEnded { id: self.lease.id(), held, lost });
        }
        lost
    }
}

/// A runtime that is shut down drops its tasks: no renewal follows, and guards must know.
impl<L: Lock> Drop for Renewal<L> {
    fn drop(&mut self) {
        // First: what observes the end is not core's, and may panic.
        self.shared.close();
        self.end(Some(LossReason::Stopped));
    }
}

/// Replies to the guard, once.
fn send_reply(
    reply: &mut Option<oneshot::Sender<Result<(), LockError>>>,
    released: Result<(), LockError>,
) {
    if let Some(reply) = reply.take() {
        let _ = reply.send(released);
    }
}

/// Sends a renewal, and another one each time a part of what the lease has left passes without a reply:
/// whatever one of them waits for, it does not use up the lease. In a box, so that a held lock is small
/// between its renewals.
async fn send<L: Lock>(lock: &L, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
    let attempt = |number| async move {
        // A second attempt does not wait for others.
        let together = if number == 0 { lock.renew_together(lease, ttl) } else { None };
        match together {
            Some(together) => together.await,
            None => lock.renew(lease, ttl).await,
        }
    };
    hedged_with((1, pauses(ttl)), CallDeadline::of_lease(lease), attempt, |_| {}).await.result
}

/// Counts from the TTL alone: the session of a lease may end earlier, but the store's crate keeps it
/// alive.
fn renew_at(lease: &Lease) -> Instant {
    let now = Instant::now();
    now + lease.term().saturating_duration_since(now) / RENEW_AFTER
}

/// When the loss is due to be reported, unless the lease is renewed before. It moves on while the lease's
/// session lives, and is in the past once that is over.
fn loss_at(lease: &Lease) -> Instant {
    // Without a lead where the clock has only just begun.
    let lead = loss_lead(lease.ttl());
    lease.deadline().checked_sub(lead).unwrap_or_else(|| lease.deadline())
}

/// Returns when the loss is due to be reported, unless the lease is renewed before.
async fn over(lease: &Lease) {
    while loss_at(lease) > Instant::now() {
        over_or_at(lease, loss_at(lease)).await;
    }
}

/// Returns at `wake_at`, or before it when the loss may be due. One timer, so that a held lock is small.
async fn over_or_at(lease: &Lease, wake_at: Instant) {
    let at = wake_at.min(loss_at(lease));
    match lease.session() {
        Some(session) => {
            // In a box: most stores have no sessions, and their locks keep no room for it.
            let _ = Box::pin(time::timeout_at(at, session.expired())).await;
        }
        None => time::sleep_until(at).await,
    }
}

fn pauses(ttl: Duration) -> Backoff {
    Backoff::new((ttl / PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX), PAUSE_MAX)
}
