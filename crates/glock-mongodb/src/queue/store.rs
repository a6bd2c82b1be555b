//! `MongoQueue`: the queue as core's waiters use it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId,
    toolkit::{
        ALIVE_FOR, Backoff, HEARTBEAT_MAX, Joining, Listening, LockStatus, LockWaiters, QueueStore,
        WaiterId,
    },
};

use crate::{acquire, client::Client, wait};

/// The queues of a client's locks.
pub(crate) struct MongoQueue(pub(crate) Arc<Client>);

impl QueueStore for MongoQueue {
    fn heartbeat_pause(&self) -> Duration {
        if self.0.turns.is_open() { Duration::from_secs(1) } else { wait::poll_pause() }
    }

    async fn enter(
        &self,
        id: &LockId,
        ttl: Duration,
        joining: &Joining,
    ) -> Result<Lease, LockError> {
        acquire::acquire(&self.0, id, ttl, Some(joining)).await
    }

    async fn listen(&self, _id: &LockId) -> Result<Listening, LockError> {
        let runtime = self.0.driver.runtime().map_err(|failure| failure.during(Action::Wait))?;
        // Once the stream is open, a heartbeat finds out what was missed before.
        let _ = self.0.turns.status(&runtime);
        Ok(Listening::Already)
    }

    /// Tries for as long as the place lasts without its client.
    async fn leave(&self, id: &LockId, waiter: WaiterId) -> Result<(), LockError> {
        let (call, client) = (self.0.call_within(Action::Wait, ALIVE_FOR)?, Arc::clone(&self.0));
        let (until, id) = (call.deadline(), id.clone());
        call.run(async move {
            let mut pauses = Backoff::STORE_FAILURE;
            loop {
                match client.leave(&id, waiter, until).await {
                    // The driver needs a while to find a primary again.
                    Err(err) if err.is_retryable() && until.left() > pauses.peek() => {
                        pauses.sleep().await;
                    }
                    result => return result,
                }
            }
        })
        .await
    }

    async fn heartbeat(&self, locks: &[LockWaiters]) -> Result<Vec<LockStatus>, LockError> {
        let limit = self.0.config.call_timeout.min(HEARTBEAT_MAX);
        let (call, client) = (self.0.call_within(Action::Wait, limit)?, Arc::clone(&self.0));
        let locks = locks.iter().map(|lock| (client.schema.key(&lock.id), lock.clone()));
        let (until, locks) = (call.deadline(), locks.collect::<Vec<_>>());
        call.run(async move {
            let found = client.commands.heartbeat(&locks, until).await?;
            // A waiter that no stream wakes learns why.
            client.turns.rejected().map_or(Ok(found), Err)
        })
        .await
    }
}
