//! Waiting for a fenced lock: until it may be free, and parked by the members until it is granted.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, FencingToken, Holder, Lease, LockError, LockId, Retry, backend,
    toolkit::{Backoff, Call, CallDeadline, QueuePermit, QueueStep, ServerQueue, acquire_queued},
};
use tokio::time;

use crate::{
    client::Link,
    error::{before, during},
    session::{acquire::CpAttempt, cp_client::CpClient, label},
    wire::cp::Ownership,
};

/// How long the members park a request. One that is not wanted any more ends with its session.
const PARK_MAX: Duration = Duration::from_mins(1);
/// The pauses between two looks of a caller that waits without a place in the queue. Members park nothing
/// but requests for the lock: one of a session of its own would take it from those who want it.
const LOOKS: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));

/// Returns once the lock may be free, or after `max`.
pub(crate) async fn until_free(
    client: &Arc<CpClient>,
    id: &LockId,
    max: Duration,
) -> Result<(), LockError> {
    let free = async {
        let mut pauses = LOOKS;
        while ownership(client, Action::Wait, id).await?.is_some() {
            time::sleep(pauses.next_jittered()).await;
        }
        Ok(())
    };
    time::timeout(max, free).await.unwrap_or(Ok(()))
}

/// Who has the lock.
pub(crate) async fn look(client: &Arc<CpClient>, id: &LockId) -> Result<Option<Holder>, LockError> {
    ownership(client, Action::Inspect, id).await
}

async fn ownership(
    client: &Arc<CpClient>,
    action: Action,
    id: &LockId,
) -> Result<Option<Holder>, LockError> {
    let call = client.call(action);
    let (client, id, until) = (Arc::clone(client), id.clone(), call.deadline());
    call.run(async move { holder(&client, (action, until), &id).await }).await
}

/// Who has the lock; with the label of its session, unless a waiter asks.
pub(crate) async fn holder(
    client: &CpClient,
    call @ (action, _): (Action, CallDeadline),
    id: &LockId,
) -> Result<Option<Holder>, LockError> {
    let (sessions, lock) = (&client.sessions, &client.names.lock(id));
    let group = &sessions.groups.of(sessions.client(), call, lock).await?;
    let labels = &client.names.labels;
    let find = |link: Link| async move {
        let during = |err| during(err, action);
        let reply = link.send(group.get_ownership(lock)).map_err(|err| before(err, action))?;
        let found = reply.await.and_then(Ownership::decode).map_err(during)?;
        let Some(fence) = u64::try_from(found.fence).ok().filter(|fence| *fence > 0) else {
            return Ok(None);
        };
        let label = if action == Action::Wait {
            String::new()
        } else {
            label::read(&link, labels, (group, found.session)).await.map_err(during)?
        };
        Ok(Some(Holder::new(label, FencingToken::new(fence))))
    };
    sessions.client().hedged(call, find).await.result
}

/// Waits, parked by the members, until the lock is granted or `retry` says to stop.
pub(crate) async fn parked(
    client: &Arc<CpClient>,
    id: &LockId,
    ttl: Duration,
    retry: &Retry,
) -> Result<Lease, LockError> {
    acquire_queued(&Queue { client, id, ttl }, &client.arrivals, id, retry).await
}

/// The members' queue for one lock, as one waiter sees it. The first waiter of each client is in it; the
/// others wait for their turn.
struct Queue<'a> {
    client: &'a Arc<CpClient>,
    id: &'a LockId,
    ttl: Duration,
}

/// Closes the session of a waiter that gave up, which takes it out of the members' queue.
struct LeaveOnDrop<'a> {
    client: &'a CpClient,
    attempt: Option<Arc<CpAttempt>>,
}

impl ServerQueue for Queue<'_> {
    /// The turn to be parked.
    type Entry = QueuePermit;

    fn has_local_waiters(&self) -> bool {
        false
    }

    async fn try_acquire(&self) -> Result<Lease, LockError> {
        self.client.acquire(self.id, self.ttl).await
    }

    async fn join(&self) -> Result<QueuePermit, LockError> {
        Ok(self.client.turns.permit(self.id).await)
    }

    async fn next(&self, _turn: &mut QueuePermit) -> Result<QueueStep, LockError> {
        let attempt = Arc::new(self.client.attempt(self.id, self.ttl, PARK_MAX));
        let mut waiter = LeaveOnDrop { client: self.client, attempt: Some(Arc::clone(&attempt)) };
        let limit = PARK_MAX + self.client.settings.config.call_timeout;
        let call = Call::new(&self.client.pending, backend::HAZELCAST, Action::Acquire, limit);
        let granted = call.acquire(self.ttl, Shared(attempt)).await;
        waiter.attempt = None;
        QueueStep::of_try(granted)
    }
}

/// An attempt that its waiter can see as well.
struct Shared(Arc<CpAttempt>);

impl glock_core::toolkit::Attempt for Shared {
    async fn run(&self, until: glock_core::toolkit::CallDeadline) -> Result<Lease, LockError> {
        self.0.run(until).await
    }

    async fn undo(&self, until: glock_core::toolkit::CallDeadline) -> Result<(), LockError> {
        self.0.undo(until).await
    }
}

impl Drop for LeaveOnDrop<'_> {
    fn drop(&mut self) {
        let session = self.attempt.take().and_then(|attempt| attempt.session.lock().clone());
        if let Some(session) = session {
            self.client.sessions.close_later(&session);
        }
    }
}
