//! `SpareLease`: a lease that no lock uses, and how it is granted.

use std::{pin::pin, sync::Arc, time::Duration};

use etcd_client::{Client, LeaseGrantOptions};
use glock_core::{
    Action, Fault, LockError,
    toolkit::{LateRequestProbe, Mutex, Reusable},
};
use tokio::time::{Instant, timeout};

use crate::{
    client::rpc::Rpc,
    error::{fault, is_worth_repeating},
    schema::lease_id,
};

/// A lease that no lock uses.
#[derive(Debug, Clone)]
pub(crate) struct SpareLease {
    pub(crate) id: i64,
    /// As granted.
    pub(crate) ttl: Duration,
    /// When its time started: before its grant or its last keep-alive was sent.
    pub(crate) since: Instant,
}

/// A lease is used as it is while less than this part of its time is gone; else it is kept alive in the
/// same round trip.
const FRESH_PART: u32 = 20;
/// A lease is not used once this part of its time is gone: it may run out on the way.
const STALE_PART: u32 = 2;

impl Reusable for SpareLease {
    fn ttl(&self) -> Duration {
        self.ttl
    }

    fn is_usable(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < self.ttl / STALE_PART
    }

    fn has_run_out(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= self.ttl
    }
}

impl SpareLease {
    /// Restarts its time. `false` if it is gone.
    pub(crate) async fn keep_alive(
        &mut self,
        rpc: &Rpc,
        action: Action,
    ) -> Result<bool, LockError> {
        let sent_at = Instant::now();
        let kept = rpc.keep_alive(action, self.id, self.ttl).await?;
        if kept {
            self.since = sent_at;
        }
        Ok(kept)
    }

    /// Sends a request that uses the lease. If much of the lease's time is gone, restarts its time in
    /// the same round trip. If that fails, or has no reply after the request has, the lease's time is as
    /// it was. A request whose reply is `wanted` waits longer for it.
    pub(crate) async fn send<T>(
        &mut self,
        rpc: &Rpc,
        action: Action,
        request: impl Future<Output = T>,
        wanted: impl FnOnce(&T) -> bool,
    ) -> T {
        if self.since.elapsed() < self.ttl / FRESH_PART {
            return request.await;
        }
        let sent_at = Instant::now();
        let mut kept = pin!(rpc.keep_alive(action, self.id, self.ttl));
        let mut request = pin!(request);
        let (kept, reply) = tokio::select! {
            kept = &mut kept => (Some(kept), request.await),
            reply = &mut request => {
                // Not cut off at once: both replies are on their way.
                let took = sent_at.elapsed();
                let wait = if wanted(&reply) { rpc.attempt_max(None) } else { took * 2 };
                (timeout(wait, kept).await.ok(), reply)
            }
        };
        if matches!(kept, Some(Ok(true))) {
            self.since = sent_at;
        }
        reply
    }
}

/// Grants a lease. Its TTL is the server's choice, and at least `ttl`.
///
/// # Cancel safety
///
/// Cancel safe: a lease that is granted after the future was dropped is revoked.
pub(crate) async fn grant(
    rpc: &Arc<Rpc>,
    action: Action,
    ttl: Duration,
) -> Result<SpareLease, LockError> {
    let secs = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
    let since = Instant::now();
    let pending = PendingGrants { rpc, ids: Mutex::new((lease_id()?, Vec::new())) };
    let request = |client: &Client| {
        let (mut client, id, pending) = (client.lease_client(), pending.next(), &pending);
        async move {
            let granted = client.grant(secs, Some(LeaseGrantOptions::new().with_id(id))).await;
            if granted.as_ref().is_err_and(|err| fault(err) != Fault::Unknown) {
                pending.resolved(id);
            }
            granted
        }
    };
    let granted = rpc.send(action, None, request).await.0?;
    pending.resolved(granted.id());
    let ttl = Duration::from_secs(granted.ttl().unsigned_abs());
    Ok(SpareLease { id: granted.id(), ttl, since })
}

/// The ids of the grants that one call sends. Each attempt has another id: a late duplicate must not
/// recreate a lease that was revoked. Dropped, it revokes those whose fate is unknown.
struct PendingGrants<'a> {
    rpc: &'a Arc<Rpc>,
    /// The next id, and those whose leases may exist or still arrive.
    ids: Mutex<(i64, Vec<i64>)>,
}

impl PendingGrants<'_> {
    fn next(&self) -> i64 {
        let (next, pending) = &mut *self.ids.lock();
        pending.push(*next);
        *next += 1;
        *next - 1
    }

    /// The lease is the caller's, or was surely not granted.
    fn resolved(&self, id: i64) {
        self.ids.lock().1.retain(|pending| *pending != id);
    }
}

impl Drop for PendingGrants<'_> {
    fn drop(&mut self) {
        let (_, ids) = std::mem::take(self.ids.get_mut());
        if !ids.is_empty() {
            self.rpc.spawn(revoke_late(Arc::clone(self.rpc), ids));
        }
    }
}

/// Revokes leases whose grants had no reply, and keeps checking for those that may still arrive. Those
/// that cannot be revoked run out.
async fn revoke_late(rpc: Arc<Rpc>, mut ids: Vec<i64>) {
    let (since, mut probe) = (Instant::now(), LateRequestProbe::new(rpc.limit()));
    loop {
        let sent_at = Instant::now();
        let (mut left, mut replied) = (Vec::new(), true);
        for id in ids {
            match rpc.revoke(Action::Release, id).await {
                Ok(true) => {}
                Err(err) if !is_worth_repeating(&err) => {}
                revoked => {
                    replied &= revoked.is_ok();
                    left.push(id);
                }
            }
        }
        let last = replied && probe.found_nothing(sent_at) || since.elapsed() > rpc.limit() * 2;
        if left.is_empty() || last {
            return;
        }
        ids = left;
        probe.pause().await;
    }
}
