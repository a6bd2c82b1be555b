//! Acquiring: one attempt and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Fault, Lease, LockError, LockId, OwnerToken, backend,
    toolkit::{Attempt, CallDeadline, Entered, Joined, WaiterId},
};

use crate::{
    client::{Client, LateStatement, SendMode},
    commands::AcquireReply,
    queue::commands::EnterReply,
};

/// Tries once to take the lock; again, under a fresh owner token, where a connection broke.
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
        let late = Arc::<LateStatement>::default();
        let mode = SendMode::Once { caller: Arc::downgrade(&caller), late: Arc::clone(&late) };
        let waiter = waiter.map(|(waiter, joined)| (waiter, joined.clone()));
        Ok(AcquireAttempt { client, mode, late, id, owner, ttl, waiter })
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
    waiter: Option<(WaiterId, Joined)>,
}

impl AcquireAttempt {
    async fn send(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, mode, id, owner, ttl, .. } = self;
        let (key, holder) = (client.key(id), &client.config.holder);
        if let Some((waiter, joined)) = &self.waiter {
            let names = (owner, *waiter);
            let reply = client.commands.enter((mode, until), &key, names, *ttl, holder).await;
            return match reply.map_err(|failure| failure.during(Action::Acquire))? {
                EnterReply::Granted { fence, sent_at } => {
                    Ok(Lease::granted(id.clone(), owner.clone(), fence, sent_at, *ttl))
                }
                EnterReply::Waiting { free_in, turn } => {
                    joined.note(free_in);
                    client.notify_turn(&turn);
                    Err(LockError::Held { id: id.clone(), holder: None })
                }
            };
        }
        let reply = client.commands.acquire(mode, until, &key, owner, *ttl, holder).await;
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
