//! `DynamoDbQueue`: the queue as core's waiters use it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId,
    toolkit::{
        ALIVE_FOR, CallDeadline, HEARTBEAT_MAX, Joining, LockStatus, LockWaiters, QueueStore,
        WaiterId,
    },
};
use tokio::task::JoinSet;

use crate::{
    client::Client,
    queue::{commands::READ_MAX, pauses, places, shown::Shown},
};

/// The queues of a client's locks.
pub(crate) struct DynamoDbQueue(pub(crate) Arc<Client>);

impl QueueStore for DynamoDbQueue {
    fn heartbeat_pause(&self) -> Duration {
        pauses::jittered(self.0.poll_max)
    }

    /// A waiter reads before it claims.
    fn expiry_slack(&self) -> Duration {
        Duration::ZERO
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
        let (client, id) = (Arc::clone(&self.0), id.clone());
        let leave = async move { client.leave(&id, waiter).await };
        self.0.call_within(Action::Wait, ALIVE_FOR).run(leave).await
    }

    /// Reads the items of a hundred locks at a time. Nothing is written: a place lasts until its turn.
    async fn heartbeat(&self, locks: &[LockWaiters]) -> Result<Vec<LockStatus>, LockError> {
        let limit = self.0.config.call_timeout.min(HEARTBEAT_MAX);
        let call = self.0.call_within(Action::Wait, limit);
        let (client, locks, until) = (Arc::clone(&self.0), locks.to_vec(), call.deadline());
        call.run(async move {
            let mut found = Vec::with_capacity(locks.len());
            for locks in locks.chunks(READ_MAX) {
                found.extend(client.statuses(locks, until).await?);
            }
            Ok(found)
        })
        .await
    }
}

impl Client {
    /// What the items of these locks say of this client's waiters. Queues are moved on at the same time: one that
    /// cannot be now does not hold up the others.
    async fn statuses(
        self: &Arc<Self>,
        locks: &[LockWaiters],
        until: CallDeadline,
    ) -> Result<Vec<LockStatus>, LockError> {
        let keys: Vec<_> = locks.iter().map(|lock| self.key(&lock.id)).collect();
        let read = async || match &*keys {
            [key] => Ok([(key.clone(), self.commands.get(key).await?)].into()),
            keys => self.commands.get_all(keys).await,
        };
        let mut records = self.repeated(Action::Wait, until, read).await.result?.of;
        let mut settling = JoinSet::new();
        for (lock, key) in locks.iter().cloned().zip(keys) {
            // Without one, the service had no room for it.
            if let Some(record) = records.remove(&key) {
                let client = Arc::clone(self);
                settling.spawn(async move {
                    let shown = client.move_on(&key, record, Action::Wait, until).await;
                    client.status(&lock, shown.as_ref())
                });
            }
        }
        Ok(settling.join_all().await)
    }

    fn status(&self, lock: &LockWaiters, shown: Option<&Shown>) -> LockStatus {
        let Some(shown) = shown else { return lock.status(None, None, []) };
        let (turn, first) = self.next(shown);
        let places = shown.record.waiters.iter().filter_map(|waiter| self.own(waiter));
        lock.status(turn, first, places)
    }
}
