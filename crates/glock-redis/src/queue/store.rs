//! `RedisQueue`: the queue as core's waiters use it.

use std::{sync::Arc, time::Duration};

use futures_util::future;
use glock_core::{
    Action, Lease, LockError, LockId,
    toolkit::{HEARTBEAT_MAX, Joining, Listening, LockStatus, LockWaiters, QueueStore, WaiterId},
};

use crate::{
    acquire,
    client::{Client, Route},
    wait,
};

/// The queues of a client's locks.
pub(crate) struct RedisQueue(pub(crate) Arc<Client>);

/// How many waiters of one lock the script looks up at once: Lua limits how many arguments a call has.
const NUMBERS_MAX: usize = 1_000;

impl QueueStore for RedisQueue {
    fn heartbeat_pause(&self) -> Duration {
        match self.0.subscriber {
            Some(_) => Duration::from_secs(1),
            None => wait::poll_pause(),
        }
    }

    async fn enter(
        &self,
        id: &LockId,
        ttl: Duration,
        joining: &Joining,
    ) -> Result<Lease, LockError> {
        acquire::acquire(&self.0, id, ttl, Some(joining)).await
    }

    async fn listen(&self, id: &LockId) -> Result<Listening, LockError> {
        let Some(subscriber) = self.0.subscriber.clone() else { return Ok(Listening::Already) };
        let (call, key) = (self.0.call(Action::Wait), self.0.schema.key(id));
        let until = call.deadline();
        call.run(async move { subscriber.subscribe(&key, until).await }).await
    }

    async fn leave(&self, id: &LockId, waiter: WaiterId) -> Result<(), LockError> {
        let (call, key) = (self.0.call(Action::Wait), self.0.schema.key(id));
        let (client, until) = (Arc::clone(&self.0), call.deadline());
        call.run(async move { client.leave(&key, waiter, until).await }).await
    }

    async fn heartbeat(&self, locks: &[LockWaiters]) -> Result<Vec<LockStatus>, LockError> {
        let limit = self.0.config().call_timeout.min(HEARTBEAT_MAX);
        let (call, client) = (self.0.call_within(Action::Wait, limit), Arc::clone(&self.0));
        let part = |lock: &LockWaiters| {
            let part = |numbers: &[u64]| LockWaiters { numbers: numbers.to_vec(), ..lock.clone() };
            lock.numbers.chunks(NUMBERS_MAX).map(part).collect::<Vec<_>>()
        };
        let (until, locks) = (call.deadline(), locks.iter().flat_map(part).collect::<Vec<_>>());
        call.run(async move {
            // On a cluster, one script may use the keys of one slot only.
            let groups: Vec<&[LockWaiters]> = match client.route {
                Route::One(_) => vec![&locks],
                Route::Cluster(_) => locks.chunks(1).collect(),
            };
            let sent = groups.into_iter().map(|group| client.heartbeat(group, until));
            Ok(future::try_join_all(sent).await?.concat())
        })
        .await
    }
}
