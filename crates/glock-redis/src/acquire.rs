//! One attempt to take a lock, and how it is undone.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline, Entered, Joined, WaiterId},
};

use crate::{
    client::Client,
    commands::{AcquireReply, Refusal},
};

/// Takes the lock if it is free, and no waiter is before the caller.
pub(crate) async fn acquire(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
) -> Result<Lease, LockError> {
    run(client, id, ttl, None).await
}

/// Takes the lock if it is free for the waiter. Otherwise the waiter is in the queue.
pub(crate) async fn enter(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
    waiter: WaiterId,
) -> Result<Entered, LockError> {
    let joined = Joined::default();
    joined.entered(run(client, id, ttl, Some((waiter, &joined))).await)
}

async fn run(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
    waiter: Option<(WaiterId, &Joined)>,
) -> Result<Lease, LockError> {
    let attempt = |_| {
        let (client, id, owner) = (Arc::clone(client), id.clone(), OwnerToken::random()?);
        let waiter = waiter.map(|(waiter, joined)| (waiter, joined.clone()));
        Ok(AcquireAttempt { client, id, owner, ttl, waiter })
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
    waiter: Option<(WaiterId, Joined)>,
}

impl Attempt for AcquireAttempt {
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let names = (&self.owner, self.waiter.as_ref().map(|(waiter, _)| *waiter));
        let reply = self.client.acquire(&self.id, names, self.ttl, until).await?;
        let id = self.id.clone();
        match reply.value {
            AcquireReply::Granted(fence) => {
                Ok(Lease::granted(id, self.owner.clone(), fence, reply.sent_at, self.ttl))
            }
            AcquireReply::Refused(Refusal { holder, left, is_first }) => {
                if let Some((_, joined)) = &self.waiter {
                    joined.note(is_first.then_some(left));
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
