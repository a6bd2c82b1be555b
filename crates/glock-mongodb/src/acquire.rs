//! Acquiring: one attempt and its undo.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline, Entered, Joined, WaiterId},
};

use crate::{
    client::Client,
    commands::{AcquireReply, AcquireRequest},
    queue::commands::EnterReply,
};

/// Tries once to take the lock; again, under a fresh owner token, where no reply came.
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
    // Dropped with this future: an attempt that was not sent by then is not sent any more.
    let caller = Arc::new(());
    let attempt = |_| {
        let (client, id, owner) = (Arc::clone(client), id.clone(), OwnerToken::random()?);
        let waiter = waiter.map(|(waiter, joined)| (waiter, joined.clone()));
        Ok(AcquireAttempt { client, caller: Arc::downgrade(&caller), id, owner, ttl, waiter })
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
    waiter: Option<(WaiterId, Joined)>,
}

impl AcquireAttempt {
    async fn enter(
        &self,
        request: AcquireRequest<'_>,
        (waiter, joined): (WaiterId, &Joined),
        until: CallDeadline,
    ) -> Result<Lease, LockError> {
        let Self { client, caller, id, owner, ttl, .. } = self;
        let reply = client.commands.enter(request, waiter, until, caller).await;
        match reply.map_err(|failure| failure.during(Action::Acquire))? {
            EnterReply::Granted { fence, sent_at } => {
                Ok(Lease::granted(id.clone(), owner.clone(), fence, sent_at, *ttl))
            }
            EnterReply::Waiting { free_in, turn } => {
                joined.note(free_in);
                client.notify_turn(turn);
                if caller.strong_count() == 0 {
                    // What the caller sent when it left may have come before. If this fails, the place
                    // is gone with its turn.
                    let _ = client.leave(id, waiter, until).await;
                }
                Err(LockError::Held { id: id.clone(), holder: None })
            }
        }
    }
}

impl Attempt for AcquireAttempt {
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, caller, id, owner, ttl, waiter } = self;
        let (key, holder) = (client.schema.key(id), &client.config.holder);
        let request = AcquireRequest { key: &key, owner, ttl: *ttl, holder };
        if let Some((waiter, joined)) = waiter {
            return self.enter(request, (*waiter, joined), until).await;
        }
        let reply = client.commands.acquire(request, until, caller).await;
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
        self.client.release(&self.id, &self.owner, None, until).await
    }
}
