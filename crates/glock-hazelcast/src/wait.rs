//! Waiting: until a lock may be free, and parked by a member until it is granted.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Fault, FencingToken, Holder, Lease, LockError, LockId, Retry,
    toolkit::{Backoff, CallDeadline, QueuePermit, QueueStep, ServerQueue, acquire_queued},
};
use tokio::{
    runtime::Handle,
    time::{self, Instant},
};

use crate::{
    acquire::AcquireAttempt,
    client::{Link, MapClient},
    commands::LockKey,
    error::{during, fault},
    queue::Parked,
    schema::{Owner, key, millis, random_number},
    wire::{
        HazelcastError,
        map::{self, Key},
    },
};

/// How long a member parks a request. Nothing takes a parked request back, so that of a waiter which gave
/// up may be granted for so long, and is then undone.
const PARK_MAX: Duration = Duration::from_secs(5);
/// The pauses before a request is sent again whose connection ended.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
/// How long a lock lasts that was granted to a parked request: its waiter renews it at once.
const PARKED_LEASE: Duration = Duration::from_secs(10);

/// Returns once the lock may be free, or after `max`.
pub(crate) async fn until_free(
    client: &Arc<MapClient>,
    id: &LockId,
    max: Duration,
) -> Result<(), LockError> {
    let (name, names) = (key(id), client.names.clone());
    let parked =
        move |link: &Link| Key::new(&names.locks, &name, link.partitions()).await_unlocked(1);
    let waiting = async {
        let session = client.session();
        let limit = client.config.call_timeout;
        let mut unlocked = client.watch.on_unlock(id.as_str(), session, limit, parked);
        // Not by the watch, which does not tell why it fails.
        if look(client, Action::Wait, id).await?.is_some() {
            unlocked.woken().await;
        }
        Ok(())
    };
    time::timeout(max, waiting).await.unwrap_or(Ok(()))
}

/// Who has the lock.
pub(crate) async fn look(
    client: &Arc<MapClient>,
    action: Action,
    id: &LockId,
) -> Result<Option<Holder>, LockError> {
    let call = client.call(action);
    let (client, id, until) = (Arc::clone(client), id.clone(), call.deadline());
    let look = async move {
        let key = &key(&id);
        let names = &client.names;
        let look = |link: Link| async move {
            let look = LockKey { link: &link, names, key }.look().await;
            look.map_err(|err| during(err, action))
        };
        let (locked, record) = client.session().hedged((action, until), look).await.result?;
        let unnamed = || Holder::new("", FencingToken::new(0));
        Ok(locked.then(|| record.map_or_else(unnamed, |record| record.holder())))
    };
    call.run(look).await
}

/// Waits, parked by a member, until the lock is granted or `retry` says to stop.
pub(crate) async fn parked(
    client: &Arc<MapClient>,
    id: &LockId,
    ttl: Duration,
    retry: &Retry,
) -> Result<Lease, LockError> {
    let queue = Queue { client, id, ttl };
    acquire_queued(&queue, &client.arrivals, id, retry).await
}

/// A member's queue for one lock, as one waiter sees it. The first waiter of each client is in it; the
/// others wait for their turn.
struct Queue<'a> {
    client: &'a Arc<MapClient>,
    id: &'a LockId,
    ttl: Duration,
}

impl Queue<'_> {
    /// Waits until a member has granted or refused the request that it parks.
    async fn parked(&self) -> Result<Parked, LockError> {
        let client = self.client;
        let owner = Owner::new(client.session().client())?;
        let reference = random_number()?;
        let (session, names) = (Arc::clone(client.session()), client.names.clone());
        let (key, limit, weak) = (key(self.id), client.config.call_timeout, Arc::downgrade(client));
        let park = |owner: Owner| async move {
            let (began, mut pauses, mut sent) = (Instant::now(), PAUSES, false);
            loop {
                let parked = async {
                    let times = (millis(PARKED_LEASE), millis(PARK_MAX));
                    let try_lock = |link: &Link| {
                        let lock = LockKey { link, names: &names, key: &key };
                        lock.send_try_lock(owner.thread, reference, times)
                    };
                    let sent = session.send(CallDeadline::after(limit), try_lock).await;
                    let (_link, reply) = sent?;
                    map::answer(reply.await?, map::TRY_LOCK)
                };
                match parked.await {
                    Err(err @ HazelcastError::NotSent(_)) if !sent => return Err(err),
                    // Under the same reference it is the same request, granted or still parked.
                    Err(err)
                        if fault(&err) != Fault::Rejected && began.elapsed() < PARK_MAX * 2 =>
                    {
                        sent = true;
                        // Its first copy may come late: the release looks for that.
                        if let Some(client) = weak.upgrade() {
                            client.threads.begin(owner.thread, PARKED_LEASE);
                        }
                    }
                    ended => return ended,
                }
                pauses.sleep().await;
            }
        };
        let (client, id, ttl) = (Arc::downgrade(client), self.id.clone(), self.ttl);
        let unclaimed = move |parked| {
            let (Some(client), Ok(runtime)) = (client.upgrade(), Handle::try_current()) else {
                return;
            };
            let Ok(attempt) = AcquireAttempt::parked(&client, &id, ttl, parked) else { return };
            let (call, pending) = (client.call(Action::Acquire), client.pending.begin());
            runtime.spawn(async move {
                // The lock is undone either way.
                let _ = call.acquire(ttl, attempt.unclaimed()).await;
                drop(pending);
            });
        };
        Ok(self.client.parks.wait(self.id, owner, park, unclaimed).await)
    }
}

impl ServerQueue for Queue<'_> {
    /// The turn to be parked.
    type Entry = QueuePermit;

    fn has_local_waiters(&self) -> bool {
        // A caller that comes while another one waits waits for its permit, and then does not try.
        false
    }

    async fn try_acquire(&self) -> Result<Lease, LockError> {
        self.client.acquire(self.id, self.ttl).await
    }

    async fn join(&self) -> Result<QueuePermit, LockError> {
        Ok(self.client.turns.permit(self.id).await)
    }

    async fn next(&self, _turn: &mut QueuePermit) -> Result<QueueStep, LockError> {
        let parked = self.parked().await?;
        let granted = match AcquireAttempt::parked(self.client, self.id, self.ttl, parked) {
            Ok(attempt) => self.client.call(Action::Acquire).acquire(self.ttl, attempt).await,
            Err(err) => Err(err),
        };
        QueueStep::of_try(granted)
    }
}

impl MapClient {
    /// Tries once to take the lock.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        id: &LockId,
        ttl: Duration,
    ) -> Result<Lease, LockError> {
        let attempt = |_| AcquireAttempt::new(self, id, ttl);
        self.call(Action::Acquire).acquire_retrying(ttl, attempt).await
    }
}
