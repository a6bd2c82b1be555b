//! One attempt to take a lock, and how it is undone.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline, Entered, Mutex, WaiterId},
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
    run(client, id, ttl, None, &Arc::default()).await
}

/// Takes the lock if it is free for the waiter. Otherwise the waiter is in the queue.
pub(crate) async fn enter(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
    waiter: WaiterId,
) -> Result<Entered, LockError> {
    let refused = Arc::default();
    match run(client, id, ttl, Some(waiter), &refused).await {
        Ok(lease) => Ok(Entered::Granted(lease)),
        Err(err @ LockError::Held { .. }) => match refused.lock().take() {
            Some(free_in) => Ok(Entered::Waiting { free_in }),
            None => Err(err),
        },
        Err(err) => Err(err),
    }
}

/// If an attempt was refused: when the lock is free, for the first waiter.
type Refused = Arc<Mutex<Option<Option<Duration>>>>;

async fn run(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
    waiter: Option<WaiterId>,
    refused: &Refused,
) -> Result<Lease, LockError> {
    let attempt = |_| {
        let (client, id, owner) = (Arc::clone(client), id.clone(), OwnerToken::random()?);
        Ok(AcquireAttempt { client, id, owner, ttl, waiter, refused: Arc::clone(refused) })
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
    waiter: Option<WaiterId>,
    refused: Refused,
}

impl Attempt for AcquireAttempt {
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let names = (&self.owner, self.waiter);
        let reply = self.client.acquire(&self.id, names, self.ttl, until).await?;
        let id = self.id.clone();
        match reply.value {
            AcquireReply::Granted(fence) => {
                Ok(Lease::granted(id, self.owner.clone(), fence, reply.sent_at, self.ttl))
            }
            AcquireReply::Refused(Refusal { holder, left, is_first }) => {
                *self.refused.lock() = Some(is_first.then_some(left));
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
