//! One attempt to take a lock, and how it is undone.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline},
};

use crate::{client::Client, commands::AcquireReply};

/// Takes the lock if it is free.
pub(crate) async fn acquire(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
) -> Result<Lease, LockError> {
    let attempt = |_| {
        let (client, id, owner) = (Arc::clone(client), id.clone(), OwnerToken::random()?);
        Ok(AcquireAttempt { client, id, owner, ttl })
    };
    client.call(Action::Acquire).acquire_retrying(ttl, attempt).await
}

/// One attempt, sent once under an owner token of its own: a second copy that arrived after the
/// release would take the lock again. (Only a cluster's connection may send it twice, see the README.)
struct AcquireAttempt {
    client: Arc<Client>,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
}

impl Attempt for AcquireAttempt {
    async fn run(&self, _until: CallDeadline) -> Result<Lease, LockError> {
        let reply = self.client.acquire(&self.id, &self.owner, self.ttl).await?;
        let id = self.id.clone();
        match reply.value {
            AcquireReply::Granted(fence) => {
                Ok(Lease::granted(id, self.owner.clone(), fence, reply.sent_at, self.ttl))
            }
            AcquireReply::Held(holder) => Err(LockError::Held { id, holder: Some(holder.into()) }),
        }
    }

    /// Runs `release.lua` with this attempt's owner token. Core calls it when the caller did not
    /// learn of a grant, as after a lost reply.
    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        Arc::clone(&self.client).release(self.id.clone(), self.owner.clone(), None).await
    }
}
