//! Acquiring: one attempt and its undo.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline},
};

use crate::{
    client::{Client, holder},
    commands::{AcquireReply, Wanted},
    schema::Version,
};

/// Tries once to take the lock; again, under a fresh owner token, where no reply came.
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
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, id, owner, ttl } = self;
        let key = client.key(id);
        let wanted = Wanted {
            key: &key,
            owner,
            ttl: *ttl,
            label: &client.config.holder,
            over: client.observations.over(&key),
        };
        let request = || client.commands.acquire(&wanted);
        // A copy that arrives late would take the lock for an owner that has given it back.
        let reply = client.requests.send_attempt(until, request).await;
        let reply = reply.map_err(|failure| failure.during(Action::Acquire))?;
        match reply.of {
            AcquireReply::Granted { fence, number } => {
                let version = Version { owner: owner.clone(), number };
                client.observations.note_version(&key, &version, *ttl);
                Ok(Lease::granted(id.clone(), owner.clone(), fence, reply.sent_at, *ttl))
            }
            // A copy of the request came first, which the network or a proxy has made.
            AcquireReply::Refused(record) if record.is_of(owner) => {
                let fence = record.fence;
                client.noted(&key, Some(record));
                Ok(Lease::granted(id.clone(), owner.clone(), fence, reply.sent_at, *ttl))
            }
            AcquireReply::Refused(record) => {
                let holder = client.noted(&key, Some(record)).and_then(holder);
                Err(LockError::Held { id: id.clone(), holder: holder.map(Box::new) })
            }
        }
    }

    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        self.client.release(&self.id, &self.owner, None).await
    }
}
