//! `SqliteQueue`: the queue as core's waiters use it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId,
    toolkit::{HEARTBEAT_MAX, Joining, Listening, LockStatus, LockWaiters, QueueStore, WaiterId},
};

use crate::{acquire, client::Client, commands::sleepers::BATCH};

/// The queues of a client's locks.
pub(crate) struct SqliteQueue(pub(crate) Arc<Client>);

impl QueueStore for SqliteQueue {
    async fn enter(
        &self,
        id: &LockId,
        ttl: Duration,
        joining: &Joining,
    ) -> Result<Lease, LockError> {
        acquire::acquire(&self.0, id, ttl, Some(joining)).await
    }

    /// The task looks at the file after this, and then whenever that changes.
    async fn listen(&self, _id: &LockId) -> Result<Listening, LockError> {
        if self.0.watch.is_stalled() {
            self.0.watch.restart();
        }
        self.0.watch.start();
        Ok(Listening::Already)
    }

    async fn leave(&self, id: &LockId, waiter: WaiterId) -> Result<(), LockError> {
        let (call, client, key) = (self.0.call(Action::Wait), Arc::clone(&self.0), self.0.key(id));
        let until = call.deadline();
        call.run(async move {
            let turn = client.commands.leave(&key, waiter, until).await;
            client.notified.waiters.turn(turn.map_err(|failure| failure.during(Action::Wait))?);
            Ok(())
        })
        .await
    }

    async fn heartbeat(&self, locks: &[LockWaiters]) -> Result<Vec<LockStatus>, LockError> {
        let limit = self.0.config.call_timeout.min(HEARTBEAT_MAX);
        let (call, client) = (self.0.call_within(Action::Wait, limit), Arc::clone(&self.0));
        let locks = locks.iter().map(|lock| (client.key(&lock.id), lock.clone()));
        let (until, locks) = (call.deadline(), locks.collect::<Vec<_>>());
        // Also where the runtime that watched the file has ended.
        client.watch.start();
        call.run(async move {
            let mut found = Vec::with_capacity(locks.len());
            for batch in locks.chunks(BATCH) {
                let of_batch = client.commands.heartbeat(batch, until).await;
                found.extend(of_batch.map_err(|failure| failure.during(Action::Wait))?);
            }
            Ok(found)
        })
        .await
    }
}
