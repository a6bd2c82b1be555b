//! Acquiring: one attempt and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Fault, Lease, LockError, LockId, OwnerToken, backend,
    toolkit::{Attempt, CallDeadline},
};

use crate::{
    client::{Client, SendMode},
    commands::AcquireReply,
};

/// Tries once to take the lock; again, under a fresh owner token, where a connection broke.
pub(crate) async fn acquire(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
) -> Result<Lease, LockError> {
    // Dropped with this future: an attempt that was not sent by then is not sent any more.
    let caller = Arc::new(());
    let attempt = |before| {
        let (client, id, owner) = (Arc::clone(client), id.clone(), OwnerToken::random()?);
        let mode = SendMode::Once { caller: Arc::downgrade(&caller), after_broken: before > 0 };
        Ok(AcquireAttempt { client, mode, id, owner, ttl })
    };
    client.call(Action::Acquire).acquire_retrying(ttl, attempt).await
}

struct AcquireAttempt {
    client: Arc<Client>,
    mode: SendMode,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
}

impl AcquireAttempt {
    async fn send(&self) -> Result<Lease, LockError> {
        let Self { client, mode, id, owner, ttl } = self;
        let (key, holder) = (client.key(id), &client.config.holder);
        let reply = client.commands.acquire(mode, &key, owner, *ttl, holder).await;
        match reply.map_err(|failure| failure.during(Action::Acquire))? {
            AcquireReply::Granted { fence, sent_at } => {
                Ok(Lease::granted(id.clone(), owner.clone(), fence, sent_at, *ttl))
            }
            AcquireReply::Held(holder) => {
                Err(LockError::Held { id: id.clone(), holder: holder.map(Box::new) })
            }
        }
    }
}

impl Attempt for AcquireAttempt {
    async fn run(&self, _until: CallDeadline) -> Result<Lease, LockError> {
        let lease = self.send().await?;
        if !lease.is_expired() {
            return Ok(lease);
        }
        // A connection's first statement takes longer, too long for a very short TTL. The same owner
        // token again extends the grant.
        self.send().await.map_err(after_grant)
    }

    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        self.client.release(&self.id, &self.owner, || true).await
    }
}

/// A failure after which the lock may be held all the same.
fn after_grant(err: LockError) -> LockError {
    match err.fault() {
        Some(_) => LockError::backend(backend::POSTGRES, Action::Acquire, Fault::Unknown, err),
        None => err,
    }
}
