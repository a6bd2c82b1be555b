//! `ConsulQueue`: the queue as core's waiters use it.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId,
    toolkit::{ALIVE_FOR, HEARTBEAT_MAX, Joining, LockStatus, LockWaiters, QueueStore, WaiterId},
};

use crate::{
    client::Client,
    queue::place::{LockQueue, Place},
};

/// The queues of a client's locks.
pub(crate) struct ConsulQueue(pub(crate) Arc<Client>);

/// Blocking queries wake waiters. A heartbeat only finds what no query can show.
const HEARTBEAT_PAUSE: Duration = Duration::from_millis(1_400);
/// How soon after the end of a reservation it is looked at.
const OVER_PAUSE: Duration = Duration::from_millis(10);

impl QueueStore for ConsulQueue {
    fn heartbeat_pause(&self) -> Duration {
        let over_in = self.0.reservations.over_in().map(|left| left + OVER_PAUSE);
        over_in.map_or(HEARTBEAT_PAUSE, |left| left.min(HEARTBEAT_PAUSE))
    }

    async fn enter(
        &self,
        id: &LockId,
        ttl: Duration,
        joining: &Joining,
    ) -> Result<Lease, LockError> {
        self.0.acquire(id, ttl, Some(joining)).await
    }

    async fn leave(&self, id: &LockId, waiter: WaiterId) -> Result<(), LockError> {
        // Most of those that leave soon have sent no request to join.
        if !self.0.waiters.may_have_place(waiter.number) {
            return Ok(());
        }
        let (client, id) = (Arc::clone(&self.0), id.clone());
        let leave =
            async move { client.leave(&id, waiter).await.map_err(|err| err.during(Action::Wait)) };
        self.0.call_within(Action::Wait, ALIVE_FOR).run(leave).await
    }

    async fn heartbeat(&self, locks: &[LockWaiters]) -> Result<Vec<LockStatus>, LockError> {
        let limit = self.0.config.call_timeout.min(HEARTBEAT_MAX);
        let (client, locks) = (Arc::clone(&self.0), locks.to_vec());
        let look = async move {
            let ids: Vec<_> = locks.iter().map(|lock| lock.id.clone()).collect();
            client.end_untaken_grants().await;
            // One after the other: at the same time, they would take two connections.
            client.sessions.renew_places().await;
            let queues = client.queues(&ids).await.map_err(|err| err.during(Action::Wait))?;
            client.watch.keep();
            let mut found = Vec::with_capacity(locks.len());
            for (lock, queue) in locks.iter().zip(&queues) {
                found.push(client.status(lock, queue).await?);
            }
            Ok(found)
        };
        self.0.call_within(Action::Wait, limit).run(look).await
    }
}

impl Client {
    /// What the queue says of this client's waiters, after it was moved on.
    async fn status(
        self: &Arc<Self>,
        lock: &LockWaiters,
        queue: &LockQueue,
    ) -> Result<LockStatus, LockError> {
        let own = |waiter: &str| self.waiters.own(waiter);
        // Wakes a waiter of this client whose turn it is.
        let _ =
            self.move_on(&lock.id, queue, None).await.map_err(|err| err.during(Action::Wait))?;
        for place in &queue.places {
            if let Some(number) =
                own(&place.waiter).filter(|&own| !self.waiters.registry.has_waiter(own))
            {
                // It left before it had a place to leave.
                let waiter = WaiterId { client: lock.client, number };
                self.leave(&lock.id, waiter).await.map_err(|err| err.during(Action::Wait))?;
            }
        }
        let is_own = |place: &Place| own(&place.waiter).is_some();
        if let Some(first) = queue.places.first().filter(|first| is_own(first) && queue.is_locked())
        {
            self.watch.is_first(&self.keys.key(&lock.id), first);
        }
        if queue.places.iter().skip(1).any(is_own) {
            self.turns.keep();
        }
        let reserved = queue.reservation().and_then(|(waiter, _)| own(&waiter));
        let places = queue.places.iter().filter_map(|place| own(&place.waiter));
        Ok(lock.status(None, None, places.chain(reserved)))
    }
}
