//! `DynamoDbQueue`: the queue as core's waiters use it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId,
    toolkit::{
        ALIVE_FOR, CallDeadline, HEARTBEAT_MAX, Joining, LockStatus, LockWaiters, QueueStore,
        WaiterId,
    },
};

use crate::{
    client::Client,
    queue::{commands::READ_MAX, pauses, places, turns::Next},
    schema::Record,
};

/// The queues of a client's locks.
pub(crate) struct DynamoDbQueue(pub(crate) Arc<Client>);

impl QueueStore for DynamoDbQueue {
    fn heartbeat_pause(&self) -> Duration {
        pauses::jittered(self.0.poll_max)
    }

    async fn enter(
        &self,
        id: &LockId,
        ttl: Duration,
        joining: &Joining,
    ) -> Result<Lease, LockError> {
        places::enter(&self.0, id, ttl, joining).await
    }

    async fn leave(&self, id: &LockId, waiter: WaiterId) -> Result<(), LockError> {
        let call = self.0.call_within(Action::Wait, ALIVE_FOR);
        let (client, id, until) = (Arc::clone(&self.0), id.clone(), call.deadline());
        call.run(async move { client.leave(&id, waiter, until).await }).await
    }

    /// Reads the items of a hundred locks at a time. Nothing is written: a place lasts until its turn.
    async fn heartbeat(&self, locks: &[LockWaiters]) -> Result<Vec<LockStatus>, LockError> {
        let limit = self.0.config.call_timeout.min(HEARTBEAT_MAX);
        let call = self.0.call_within(Action::Wait, limit);
        let (client, locks, until) = (Arc::clone(&self.0), locks.to_vec(), call.deadline());
        call.run(async move {
            let mut found = Vec::with_capacity(locks.len());
            for locks in locks.chunks(READ_MAX) {
                client.statuses(locks, until, &mut found).await?;
            }
            Ok(found)
        })
        .await
    }
}

impl Client {
    async fn statuses(
        &self,
        locks: &[LockWaiters],
        until: CallDeadline,
        found: &mut Vec<LockStatus>,
    ) -> Result<(), LockError> {
        let keys: Vec<_> = locks.iter().map(|lock| self.key(&lock.id)).collect();
        let read = async || match &*keys {
            [key] => Ok([(key.clone(), self.commands.get(key).await?)].into()),
            keys => self.commands.get_all(keys).await,
        };
        let mut records = self.repeated(Action::Wait, until, read).await.result?.of;
        for (lock, key) in locks.iter().zip(&keys) {
            // Without one, the service had no room for it.
            if let Some(record) = records.remove(key) {
                found.push(self.status(lock, key, record, until).await?);
            }
        }
        Ok(())
    }

    /// What a lock's record says of this client's waiters, after its queue was moved on.
    async fn status(
        &self,
        lock: &LockWaiters,
        key: &str,
        record: Option<Record>,
        until: CallDeadline,
    ) -> Result<LockStatus, LockError> {
        let Some(shown) = self.settle(key, record, Action::Wait, until).await? else {
            return Ok(lock.status(None, None, []));
        };
        let (turn, first) = match self.next_of(&shown) {
            Some((number, Next::Claim)) => (Some(number), None),
            Some((number, Next::Read(pause))) => (None, Some((number, pause))),
            Some((_, Next::Heartbeat)) | None => (None, None),
        };
        if let Some(number) = turn {
            self.turn(number);
        }
        let places = shown.record.waiters.iter().filter_map(|waiter| self.own(waiter));
        Ok(lock.status(turn, first, places))
    }
}
