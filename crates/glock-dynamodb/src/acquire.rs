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
    client::{Client, holder},
    commands::{AcquireReply, Wanted},
    error::Failure,
    schema::Version,
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
    client.call(Action::Acquire).acquire_retrying(ttl, attempt).await
}

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
        let key = client.key(id);
        let wanted = Wanted {
            key: &key,
            owner,
            ttl: *ttl,
            label: &client.config.holder,
            over: client.observations.over(&key),
        };
        let request = async || match caller.upgrade() {
            Some(_) => client.commands.acquire(&wanted).await,
            None => Err(Failure::abandoned()),
        };
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
