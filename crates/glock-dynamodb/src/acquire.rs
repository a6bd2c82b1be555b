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
    client::{Client, Reply, holder},
    commands::{AcquireReply, Wanted},
    error::Failure,
    queue::shown::Shown,
    schema::Version,
};

/// Tries once to take the lock; again, under a fresh owner token, where no reply came. Where a waiter is named,
/// takes it if that is the first in the queue.
pub(crate) async fn acquire(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
    waiter: Option<&str>,
) -> Result<Lease, LockError> {
    // Dropped with this future: an attempt that was not sent by then is not sent any more.
    let caller = Arc::new(());
    let attempt = |_| {
        let (client, id, owner) = (Arc::clone(client), id.clone(), OwnerToken::random()?);
        let (caller, waiter) = (Arc::downgrade(&caller), waiter.map(str::to_owned));
        Ok(AcquireAttempt { client, caller, id, owner, ttl, waiter })
    };
    client.call(Action::Acquire).acquire_retrying(ttl, attempt).await
}

struct AcquireAttempt {
    client: Arc<Client>,
    caller: Weak<()>,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
    /// The waiter's name in the queue.
    waiter: Option<String>,
}

impl Attempt for AcquireAttempt {
    async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, id, owner, ttl, waiter, .. } = self;
        let key = client.key(id);
        let mut is_first_try = true;
        loop {
            let reply = self.send(&key, until).await?;
            let granted =
                |fence| Lease::granted(id.clone(), owner.clone(), fence, reply.sent_at, *ttl);
            let record = match reply.of {
                AcquireReply::Granted { fence, number, waiters } => {
                    let version = Version { owner: owner.clone(), number };
                    let known = client.observations.note_version(&key, &version, *ttl);
                    if waiter.is_some() {
                        client.tell_next(&Shown::held(known, fence, waiters));
                    }
                    return Ok(granted(fence));
                }
                AcquireReply::Refused(record) => record,
            };
            // A copy of the request came first, which the network or a proxy has made.
            if let Some(record) = record.as_ref().filter(|record| record.is_of(owner)) {
                client.note(&key, Some(record));
                return Ok(granted(record.fence));
            }
            let settled = client.move_on(&key, record, Action::Acquire, until).await;
            // All who were before the caller were gone, and now their places are.
            let is_free = settled.as_ref().is_none_or(Shown::is_free);
            if is_free && waiter.is_none() && is_first_try {
                is_first_try = false;
                continue;
            }
            let holder = settled.and_then(|shown| holder((shown.record, shown.known?)));
            return Err(LockError::Held { id: id.clone(), holder: holder.map(Box::new) });
        }
    }

    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        self.client.release(&self.id, &self.owner, None).await
    }
}

impl AcquireAttempt {
    async fn send(&self, key: &str, until: CallDeadline) -> Result<Reply<AcquireReply>, LockError> {
        let Self { client, caller, owner, ttl, waiter, .. } = self;
        let wanted = Wanted {
            key,
            owner,
            ttl: *ttl,
            label: &client.config.holder,
            over: client.observations.over(key),
            waiter: waiter.as_deref(),
        };
        let request = async || match caller.upgrade() {
            Some(_) => client.commands.acquire(&wanted).await,
            None => Err(Failure::abandoned()),
        };
        // A copy that arrives late would take the lock for an owner that has given it back.
        let reply = client.requests.send_attempt(until, request).await;
        reply.map_err(|failure| failure.during(Action::Acquire))
    }
}
