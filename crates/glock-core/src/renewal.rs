//! `Renewal`: the task that keeps a guard's lease alive, once for every store.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use crate::{
    Event, Lease, Lock, LockError, LossReason, OwnerToken, Task, Tether,
    guard::{Order, Shared, TIMER_LEAD},
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
    ttl: Duration,
    renew_at: Instant,
    shared: Arc<Shared>,
    orders: oneshot::Receiver<Order>,
    /// Whether the end of the hold has been told.
    told: bool,
}

/// Sleeps until the store tells that the hold is over. It goes on over renewals, because a store may
/// have to look through its history for whoever begins to watch.
struct Ending {
    /// Whose the hold is, and on which session.
    owner: OwnerToken,
    tether: Option<Tether>,
    told: Task,
}

impl Ending {
    fn of<L: Lock>(lock: &Arc<L>, lease: &Lease) -> Self {
        let (lock, watched) = (Arc::clone(lock), lease.double());
        let told = Box::pin(async move { lock.ended(&watched).await });
        Self { owner: lease.owner().clone(), tether: lease.tether().cloned(), told }
    }

    /// Whether a renewal has left the hold where it was.
    fn is_of(&self, lease: &Lease) -> bool {
        self.owner == *lease.owner() && self.tether.as_ref() == lease.tether()
    }
}

/// How a hold ends.
enum End {
    /// The guard was released, or dropped if nobody waits for an answer.
    LetGo(Option<Order>),
    Lost(LossReason),
}

impl<L: Lock> Renewal<L> {
    pub(crate) fn new(
        lock: L,
        lease: Lease,
        ttl: Duration,
        shared: Arc<Shared>,
        orders: oneshot::Receiver<Order>,
    ) -> Self {
        let renew_at = renew_at(&lease);
        lock.observe(&Event::HoldStarted { id: lease.id() });
        Self { lock: Arc::new(lock), lease, ttl, renew_at, shared, orders, told: false }
    }

    pub(crate) async fn run(mut self) {
        let (lost, order) = match self.keep().await {
            End::LetGo(order) => (self.end(None), order),
            End::Lost(reason) => {
                let lost = self.end(Some(reason));
                // The holder may still be at work: free the lock only once the guard is gone.
                (lost, (&mut self.orders).await.ok())
            }
        };
        let Some(reason) = lost else { return self.release(order).await };
        if let Some(order) = order {
            let _ = order.send(Err(self.shared.not_held()));
        }
        if reason != LossReason::TakenAway {
            self.release(None).await;
        }
    }

    /// Keeps the lease alive until the guard lets go or the lock is lost.
    async fn keep(&mut self) -> End {
        let mut ending = Ending::of(&self.lock, &self.lease);
        loop {
            let hold_until = self.shared.hold_until();
            let wake_at = hold_until.map_or(self.renew_at, |until| until.min(self.renew_at));
            tokio::select! {
                biased;
                order = &mut self.orders => return End::LetGo(order.ok()),
                () = &mut ending.told => return End::Lost(LossReason::TakenAway),
                () = self.shared.changed.notified() => continue,
                () = over(&self.lease) => return End::Lost(LossReason::Expired),
                () = time::sleep_until(wake_at) => {}
            }
            let renewed = if hold_until.is_some_and(|until| until <= Instant::now()) {
                self.run_out(&mut ending).await
            } else {
                self.renew(&mut ending).await
            };
            if let Err(end) = renewed {
                return end;
            }
            if !ending.is_of(&self.lease) {
                ending = Ending::of(&self.lock, &self.lease);
            }
        }
    }

    /// Renews the lease, and tries again until its deadline.
    async fn renew(&mut self, ending: &mut Ending) -> Result<(), End> {
        let mut pause = first_pause(self.ttl);
        loop {
            let hold_until = self.shared.hold_until();
            if hold_until.is_some_and(|until| until <= Instant::now()) {
                return Ok(());
            }
            let renewed = tokio::select! {
                biased;
                order = &mut self.orders => return Err(End::LetGo(order.ok())),
                () = &mut ending.told => return Err(End::Lost(LossReason::TakenAway)),
                () = over(&self.lease) => return Err(End::Lost(LossReason::Expired)),
                renewed = self.lock.renew(&self.lease, self.ttl) => renewed,
            };
            if let Some(reason) = self.shared.lost() {
                // Told a tick before the deadline, and not taken back by an answer that came then.
                return Err(End::Lost(reason));
            }
            match renewed {
                Ok(lease) if lease.is_expired() => return Err(End::Lost(LossReason::Expired)),
                // Asked for before the holder's time was up, and too late to have more of it.
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
            let again_at = Instant::now() + pause.min(self.lease.remaining());
            tokio::select! {
                biased;
                order = &mut self.orders => return Err(End::LetGo(order.ok())),
                () = &mut ending.told => return Err(End::Lost(LossReason::TakenAway)),
                () = time::sleep_until(hold_until.map_or(again_at, |until| until.min(again_at))) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Lets the lease of a holder that is stuck run out.
    async fn run_out(&mut self, ending: &mut Ending) -> Result<(), End> {
        tokio::select! {
            biased;
            order = &mut self.orders => Err(End::LetGo(order.ok())),
            () = &mut ending.told => Err(End::Lost(LossReason::TakenAway)),
            // `with_max_hold` may be called again with a longer time.
            () = self.shared.changed.notified() => Ok(()),
            () = over(&self.lease) => Err(End::Lost(self.shared.run_out())),
        }
    }

    /// Releases the lock. Whoever waits is told of the first answer; a failure is tried again
    /// until the lease has run out by itself.
    async fn release(&mut self, mut order: Option<Order>) {
        let give_up = Instant::now() + self.lease.ttl();
        let mut pause = first_pause(self.ttl);
        loop {
            let released = self.lock.release(&self.lease).await;
            let again = released.as_ref().is_err_and(LockError::is_retryable);
            if let Some(order) = order.take() {
                let _ = order.send(released);
            }
            if !again || Instant::now() + pause >= give_up {
                return;
            }
            time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Ends the hold and tells of it once.
    fn end(&mut self, end: Option<LossReason>) -> Option<LossReason> {
        let lost = self.shared.end(end);
        if !std::mem::replace(&mut self.told, true) {
            let held = self.shared.held();
            self.lock.observe(&Event::HoldEnded { id: self.lease.id(), held, lost });
        }
        lost
    }
}

/// A runtime that is shut down drops its tasks: nobody renews any more, and guards must know.
impl<L: Lock> Drop for Renewal<L> {
    fn drop(&mut self) {
        self.end(Some(LossReason::Stopped));
    }
}

/// The session that a lease hangs on has a shorter breath than its TTL; something else keeps it
/// alive.
fn renew_at(lease: &Lease) -> Instant {
    let now = Instant::now();
    now + lease.term().saturating_duration_since(now) / RENEW_AFTER
}

/// Returns when the loss is told, unless the lease is renewed before. The deadline moves on while
/// the session lives that the lease hangs on.
async fn over(lease: &Lease) {
    loop {
        // Without a lead where the clock has only just begun.
        let at = lease.deadline().checked_sub(TIMER_LEAD).unwrap_or_else(|| lease.deadline());
        if at <= Instant::now() {
            return;
        }
        time::sleep_until(at).await;
    }
}

fn first_pause(ttl: Duration) -> Duration {
    (ttl / PAUSE_PART).clamp(PAUSE_MIN, PAUSE_MAX)
}
