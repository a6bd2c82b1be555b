//! Acquiring: one attempt and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{AcquireRequest, Attempt, CallDeadline, Joining},
};

use crate::client::Client;

/// Tries once to take the lock; again, under a fresh owner token, where the file failed. A caller that joins
/// is then in the queue.
pub(crate) async fn acquire(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
    joining: Option<&Joining>,
) -> Result<Lease, LockError> {
    let attempt = |_| {
        let (client, id, owner) = (Arc::clone(client), id.clone(), OwnerToken::random()?);
        Ok(AcquireAttempt { client, id, owner, ttl, joining: joining.cloned() })
    };
    client.call(Action::Acquire).acquire_retrying(ttl, attempt).await
}

struct AcquireAttempt {
    client: Arc<Client>,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
    joining: Option<Joining>,
}

impl Attempt for AcquireAttempt {
    /// There is no other way to the file, so an attempt has all the time of its call.
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, id, owner, ttl, joining } = self;
        let (key, holder) = (client.key(id), &client.config.holder);
        let request = AcquireRequest { key: &key, owner, ttl: *ttl, holder };
        let reply = match joining {
            Some(joining) => client.commands.enter(request, joining.waiter(), until).await,
            None => client.commands.acquire(request, until).await,
        };
        let reply = reply.map_err(|failure| failure.during(Action::Acquire))?;
        reply.lease(id, owner, *ttl, joining.as_ref())
    }

    async fn undo(&self, until: CallDeadline) -> Result<(), LockError> {
        self.client.release(&self.id, &self.owner, until).await
    }
}
