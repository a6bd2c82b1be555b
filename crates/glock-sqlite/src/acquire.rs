//! Acquiring: one attempt and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline, Entered, Joined, WaiterId},
};

use crate::{client::Client, commands::AcquireReply, queue::commands::EnterReply};

/// Tries once to take the lock; again, under a fresh owner token, where the file failed.
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

struct AcquireAttempt {
    client: Arc<Client>,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
    waiter: Option<(WaiterId, Joined)>,
}

impl Attempt for AcquireAttempt {
    /// There is no other way to the file, so an attempt has all the time of its call.
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, id, owner, ttl, waiter } = self;
        let (key, holder) = (client.key(id), &client.config.holder);
        if let Some((waiter, joined)) = waiter {
            let reply = client.commands.enter(until, &key, (owner, *waiter), *ttl, holder).await;
            return match reply.map_err(|failure| failure.during(Action::Acquire))? {
                EnterReply::Granted { fence, sent_at } => {
                    Ok(Lease::granted(id.clone(), owner.clone(), fence, sent_at, *ttl))
                }
                EnterReply::Waiting { free_in, turn } => {
                    joined.note(free_in);
                    client.notify_turn(turn);
                    Err(LockError::Held { id: id.clone(), holder: None })
                }
            };
        }
        let reply = client.commands.acquire(until, &key, owner, *ttl, holder).await;
        match reply.map_err(|failure| failure.during(Action::Acquire))? {
            AcquireReply::Granted { fence, sent_at } => {
                Ok(Lease::granted(id.clone(), owner.clone(), fence, sent_at, *ttl))
            }
            AcquireReply::Held(holder) => {
                Err(LockError::Held { id: id.clone(), holder: holder.map(Box::new) })
            }
        }
    }

    async fn undo(&self, until: CallDeadline) -> Result<(), LockError> {
        self.client.release(&self.id, &self.owner, until).await
    }
}
