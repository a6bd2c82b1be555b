//! Acquiring: one attempt and its undo.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{AcquireRequest, Attempt, CallDeadline, Joining},
};

use crate::client::Client;

/// Tries once to take the lock; again, under a fresh owner token, where no reply came. A caller that joins is
/// then in the queue.
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
        let (caller, joining) = (Arc::downgrade(&caller), joining.cloned());
        Ok(AcquireAttempt { client, caller, id, owner, ttl, joining })
    };
    client.call(Action::Acquire)?.acquire_retrying(ttl, attempt).await
}

/// One attempt, under an owner token of its own. It is not sent again once it may have been carried out:
/// a copy that arrived after the release would take the lock again.
struct AcquireAttempt {
    client: Arc<Client>,
    caller: Weak<()>,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
    joining: Option<Joining>,
}

impl Attempt for AcquireAttempt {
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, caller, id, owner, ttl, joining } = self;
        let (key, holder) = (client.schema.key(id), &client.config.holder);
        let request = AcquireRequest { key: &key, owner, ttl: *ttl, holder };
        let reply = match joining {
            Some(joining) => client.commands.enter(request, joining.waiter(), until, caller).await,
            None => client.commands.acquire(request, until, caller).await,
        };
        let reply = reply.map_err(|failure| failure.during(Action::Acquire))?;
        let lease = reply.lease(id, owner, *ttl, joining.as_ref());
        if let (Err(_), Some(joining)) = (&lease, joining)
            && caller.strong_count() == 0
        {
            // What the caller sent when it left may have come before. If this fails, the place is gone with
            // its turn.
            let _ = client.leave(id, joining.waiter(), until).await;
        }
        lease
    }

    async fn undo(&self, until: CallDeadline) -> Result<(), LockError> {
        self.client.release(&self.id, &self.owner, None, until).await
    }
}
