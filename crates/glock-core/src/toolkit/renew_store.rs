//! `RenewStore`: what a store does to renew many leases by one request.

use std::time::Duration;

use tokio::{sync::oneshot, time::Instant};

use super::{call::Call, call_deadline::CallDeadline};
use crate::{Lease, LockError};

/// What a store does to renew many leases by one request.
pub trait RenewStore: Clone + Send + Sync + 'static {
    /// A call that renews leases.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store cannot be called.
    fn call(&self) -> Result<Call, LockError>;

    /// Renews these leases for `ttl`, or those that it can renew at once. Returns the instant just before the request was
    /// sent, and of each lease whether it was renewed, in the same order. Each other one is then renewed by a
    /// request of its own, which tells why.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed. None of them counts as renewed.
    ///
    /// # Cancel safety
    ///
    /// Need not be cancel safe: it runs in a [`Call`], which lasts `until` then.
    fn renew_all(
        self,
        leases: Vec<Lease>,
        ttl: Duration,
        until: CallDeadline,
    ) -> impl Future<Output = Result<(Instant, Vec<bool>), LockError>> + Send;
}

/// A lease that is due.
pub(super) struct Due {
    pub(super) lease: Lease,
    /// Receives the instant just before the request was sent. It is dropped if the lease was not renewed.
    pub(super) reply: oneshot::Sender<Instant>,
}

/// Sends a batch, and tells each guard whose lease was renewed.
pub(super) async fn send<S: RenewStore>(store: S, mut batch: Vec<Due>, ttl: Duration) {
    // No renewal is sent for a guard that is gone.
    batch.retain(|due| !due.reply.is_closed());
    if batch.len() < 2 {
        // A guard that is alone renews its lease by itself.
        return;
    }
    let (leases, replies): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|due| (due.lease, due.reply)).unzip();
    let Ok(call) = store.call() else { return };
    let until = call.deadline().for_leases(&leases);
    let renewed = call.run(store.renew_all(leases, ttl, until)).await;
    let Ok((sent_at, are_renewed)) = renewed else { return };
    for (reply, _) in replies.into_iter().zip(are_renewed).filter(|(_, is_renewed)| *is_renewed) {
        let _ = reply.send(sent_at);
    }
}
