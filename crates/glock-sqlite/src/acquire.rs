//! Acquiring: one attempt and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline},
};

use crate::{client::Client, commands::AcquireReply};

/// Tries once to take the lock; again, under a fresh owner token, where the file failed.
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

struct AcquireAttempt {
    client: Arc<Client>,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
}

impl Attempt for AcquireAttempt {
    /// There is no other way to the file, so an attempt has all the time of its call.
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, id, owner, ttl } = self;
        let (key, holder) = (client.key(id), &client.config.holder);
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
