//! `AcquireAttempt`: one attempt to take a lock of the toy store.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Lease, LockError, LockId, OwnerToken,
    toolkit::{Attempt, CallDeadline},
};
use tokio::time::Instant;

use crate::client::Client;

/// One attempt to take a lock.
pub(crate) struct AcquireAttempt {
    pub client: Arc<Client>,
    pub id: LockId,
    pub owner: OwnerToken,
    pub ttl: Duration,
    pub sent_at: Instant,
}

impl Attempt for AcquireAttempt {
    async fn run(&self, _until: CallDeadline) -> Result<Lease, LockError> {
        let Self { client, id, owner, ttl, sent_at } = self;
        Arc::clone(client).acquire(id.clone(), owner.clone(), *ttl, *sent_at).await
    }

    async fn undo(&self, _until: CallDeadline) -> Result<(), LockError> {
        Arc::clone(&self.client).release(self.id.clone(), self.owner.clone()).await
    }
}
