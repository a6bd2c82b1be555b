//! One attempt to take a lock, and how it is undone.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline, Joining},
};

use crate::{
    client::Client,
    commands::{AcquireReply, Refusal},
};

/// Takes the lock if it is free, and no waiter is before the caller. A caller that joins is then in the
/// queue.
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

/// One attempt, sent once under an owner token of its own: a second copy that arrived after the
/// release would take the lock again. (Only the application's connection may send it twice, see the
/// README.)
struct AcquireAttempt {
    client: Arc<Client>,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
    joining: Option<Joining>,
}

impl Attempt for AcquireAttempt {
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let names = (&self.owner, self.joining.as_ref().map(Joining::waiter));
        let reply = self.client.acquire(&self.id, names, self.ttl, until).await?;
        let id = self.id.clone();
        match reply.value {
            AcquireReply::Granted(fence) => {
                Ok(Lease::granted(id, self.owner.clone(), fence, reply.sent_at, self.ttl))
            }
            AcquireReply::Refused(Refusal { holder, left, is_first }) => {
                if let Some(joining) = &self.joining {
                    joining.note(is_first.then_some(left), None);
                }
                Err(LockError::Held { id, holder: holder.map(Into::into) })
            }
        }
    }

    /// Runs `release.lua` with this attempt's owner token. Core calls it when the caller did not
    /// learn of a grant, as after a lost reply.
    async fn undo(&self, until: CallDeadline) -> Result<(), LockError> {
        Arc::clone(&self.client).release(self.id.clone(), self.owner.clone(), None, until).await
    }
}
