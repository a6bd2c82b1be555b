//! Acquiring: one attempt and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Fault, Lease, LockError, LockId, OwnerToken, backend,
    toolkit::{AcquireRequest, Attempt, CallDeadline, Joining},
};

use crate::client::{Client, LateStatement, SendMode};

/// Tries once to take the lock; again, under a fresh owner token, where a connection broke. A caller that
/// joins is then in the queue.
pub(crate) async fn acquire(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
    joining: Option<&Joining>,
) -> Result<Lease, LockError> {
    // Dropped with this future: an attempt that was not sent by then is not sent any more.
    let caller = Arc::new(());
    let attempt = |_| {
        let (client, id, owner) = (Arc::clone(client), id.clone(), OwnerToken::random()?);
        let late = Arc::<LateStatement>::default();
        let mode = SendMode::Once { caller: Arc::downgrade(&caller), late: Arc::clone(&late) };
        Ok(AcquireAttempt { client, mode, late, id, owner, ttl, joining: joining.cloned() })
    };
    client.call(Action::Acquire).acquire_retrying(ttl, attempt).await
}

struct AcquireAttempt {
    client: Arc<Client>,
    mode: SendMode,
    late: Arc<LateStatement>,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
    joining: Option<Joining>,
}

impl AcquireAttempt {
    async fn send(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, mode, id, owner, ttl, joining, .. } = self;
        let (key, holder) = (client.key(id), &client.config.holder);
        let request = AcquireRequest { key: &key, owner, ttl: *ttl, holder };
        let reply = match joining {
            Some(joining) => client.commands.enter(request, joining.waiter(), mode, until).await,
            None => client.commands.acquire(request, mode, until).await,
        };
        let reply = reply.map_err(|failure| failure.during(Action::Acquire))?;
        reply.lease(id, owner, *ttl, joining.as_ref())
    }
}

impl Attempt for AcquireAttempt {
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let lease = self.send(until).await?;
        if !lease.is_expired() {
            return Ok(lease);
        }
        // A connection's first statement takes longer, too long for a very short TTL. The same owner
        // token again extends the grant.
        self.send(until).await.map_err(after_grant)
    }

    async fn undo(&self, until: CallDeadline) -> Result<(), LockError> {
        let release = || self.client.release(&self.id, &self.owner, until, || true);
        match release().await {
            Err(LockError::NotHeld { .. }) if self.late.may_run() => {}
            result => return result,
        }
        // A row that the statement has not committed yet looks as if it were not there.
        let ended = self.late.end(&self.client.connections).await;
        ended.map_err(|failure| failure.during(Action::Release))?;
        release().await
    }
}

/// A failure after which the lock may be held all the same.
fn after_grant(err: LockError) -> LockError {
    match err.fault() {
        Some(_) => LockError::backend(backend::POSTGRES, Action::Acquire, Fault::Unknown, err),
        None => err,
    }
}
