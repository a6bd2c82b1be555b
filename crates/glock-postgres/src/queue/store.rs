//! `PostgresQueue`: the queue as core's waiters use it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId,
    toolkit::{HEARTBEAT_MAX, Joining, Listening, LockStatus, LockWaiters, QueueStore, WaiterId},
};

use crate::{acquire, client::Client, wait};

/// The queues of a client's locks.
pub(crate) struct PostgresQueue(pub(crate) Arc<Client>);

impl QueueStore for PostgresQueue {
    fn heartbeat_pause(&self) -> Duration {
        if self.0.listener.is_heard() { Duration::from_secs(1) } else { wait::poll_pause() }
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
        // Once it is connected, a heartbeat finds out what was missed before.
        let _ = self.0.listener.status();
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
        call.run(async move {
            let found = client.commands.heartbeat(&locks, until).await;
            let found = found.map_err(|failure| failure.during(Action::Wait))?;
            // A waiter that no notification reaches learns why.
            client.listener.rejected().map_or(Ok(found), Err)
        })
        .await
    }
}
