//! Acquiring: one attempt and its undo.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline},
};

use crate::{
    client::Client,
    commands::{AcquireReply, AcquireRequest},
};

/// Tries once to take the lock; again, under a fresh owner token, where no reply came.
pub(crate) async fn acquire(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
) -> Result<Lease, LockError> {
    // Dropped with this future: an attempt that was not sent by then is not sent any more.
    let caller = Arc::new(());
    let attempt = |_| {
        let (client, id, owner) = (Arc::clone(client), id.clone(), OwnerToken::random()?);
        Ok(AcquireAttempt { client, caller: Arc::downgrade(&caller), id, owner, ttl })
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
}

impl Attempt for AcquireAttempt {
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, caller, id, owner, ttl } = self;
        let (key, holder) = (client.schema.key(id), &client.config.holder);
        let request = AcquireRequest { key: &key, owner, ttl: *ttl, holder };
        let reply = client.commands.acquire(request, until, caller).await;
        match reply.map_err(|failure| failure.during(Action::Acquire))? {
            AcquireReply::Granted { fence, sent_at } => {
                Ok(Lease::granted(id.clone(), owner.clone(), fence, sent_at, *ttl))
            }
            AcquireReply::Held(holder) => {
                Err(LockError::Held { id: id.clone(), holder: Some(holder.into()) })
            }
        }
    }

    async fn undo(&self, until: CallDeadline) -> Result<(), LockError> {
        self.client.release(&self.id, &self.owner, None, until).await
    }
}
