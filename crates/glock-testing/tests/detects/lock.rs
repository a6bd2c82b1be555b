//! `ToyLock`: a lock on the toy store that keeps the contract, unless a flaw is planted in it.

use std::{fmt, sync::Arc, time::Duration};

use glock_core::{
    Action, Capabilities, Fairness, Holder, Lease, Lock, LockConfig, LockError, LockExt, LockId,
    OwnerToken, Retry, Waiting, async_trait,
    toolkit::{Attempt, BoxFuture, Call, LockHooks, PendingWork, RecordQueue, WaitQueue},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::{
    attempt::AcquireAttempt,
    client::Client,
    flaw::Flaw,
    keys::prefix,
    leftover::Leftover,
    queue::keeps_queue,
    subscriber::listen,
    transport::{BACKEND, Endpoint},
    waiters::ToyQueue,
};

/// How close to the end of its lease a flawed renewal adds to it, and how long that lasts.
const GRACE_FROM: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_millis(150);
/// The pause of a flawed poller: long enough to be seen on a busy machine.
const SELDOM: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(crate) struct ToyLock(pub(crate) Arc<Client>, Arc<RecordQueue<ToyQueue>>);

impl ToyLock {
    pub(crate) fn new(endpoint: Endpoint, config: LockConfig) -> Self {
        let client = Arc::new(Client::new(endpoint, config));
        let (store, waiters) = (ToyQueue::new(&client), client.subscriber.waiters.clone());
        let queue = RecordQueue::new(store, waiters, &client.pending);
        Self(client, queue)
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.0.flaw == flaw
    }

    pub(crate) async fn call<T: Send + 'static>(
        &self,
        action: Action,
        work: impl Future<Output = Result<T, LockError>> + Send + 'static,
    ) -> Result<T, LockError> {
        let limit = self.0.config.call_timeout;
        match self.0.flaw {
            Flaw::NoTimeLimit => work.await,
            Flaw::WaitHasNoTimeLimit if action == Action::Wait => work.await,
            Flaw::RenewsByAcquiring if action == Action::Renew => work.await,
            Flaw::ReleaseStopsHalfWay if action == Action::Release => {
                tokio::task::yield_now().await;
                work.await
            }
            _ => Call::new(&self.0.pending, BACKEND, action, limit).run(work).await,
        }
    }

    fn ttl(&self, ttl: Duration) -> Result<Duration, LockError> {
        let checked = self.capabilities().ttl(ttl);
        match self.0.flaw {
            Flaw::TtlUnchecked => Ok(ttl),
            Flaw::TtlRoundedDown => {
                checked.map(|_| Duration::from_secs(ttl.as_secs()).max(Duration::from_millis(10)))
            }
            Flaw::TtlMaxRefused if ttl == self.capabilities().ttl_max => {
                Err(LockError::invalid("ttl", "it is not shorter than the longest"))
            }
            _ => checked,
        }
    }

    async fn acquire_in_time(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let call = Call::new(&self.0.pending, BACKEND, Action::Acquire, self.0.config.call_timeout);
        let attempt = || {
            let (client, owner, sent_at) =
                (Arc::clone(&self.0), OwnerToken::random()?, Instant::now());
            Ok(AcquireAttempt { client, id: id.clone(), owner, ttl, sent_at })
        };
        let until = call.deadline();
        match self.0.flaw {
            Flaw::AcquireNotUndone | Flaw::NoTimeLimit => {
                let attempt = attempt()?;
                self.call(Action::Acquire, async move { attempt.run(until).await }).await
            }
            Flaw::UndoneOnce => {
                let attempt = Arc::new(attempt()?);
                let running = Arc::clone(&attempt);
                let result = call.clone().run(async move { running.run(until).await }).await;
                if result.is_err() {
                    let _ = call.run(async move { attempt.undo(until).await }).await;
                }
                result
            }
            Flaw::NoRetry => call.acquire(ttl, attempt()?).await,
            _ => call.acquire_retrying(ttl, |_| attempt()).await,
        }
    }

    /// Renews in the background: as often as it takes, or once after the release.
    fn renew_behind_the_back(&self, lease: &Lease, ttl: Duration, pause: Duration) {
        let (lock, once) = (self.clone(), !self.has(Flaw::ClientRenews));
        let (id, owner) = (lease.id().clone(), lease.owner().clone());
        tokio::spawn(async move {
            loop {
                sleep(pause).await;
                let client = Arc::clone(&lock.0);
                let renewed = if once {
                    let held = client.acquire(id.clone(), owner.clone(), ttl, Instant::now());
                    held.await.map(drop)
                } else {
                    client.renew(id.clone(), owner.clone(), ttl).await
                };
                if once || renewed.is_err() {
                    return;
                }
            }
        });
    }

    /// Sleeps until a release wakes it, the holder's lease ends or `max` has passed.
    async fn sleep(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        let client = Arc::clone(&self.0);
        let limit = client.config.call_timeout;
        let key = client.key(id);
        let _wakes_at = self.has(Flaw::WaitOverflows).then(|| Instant::now() + max);
        if self.has(Flaw::SubscribesAfterLook) {
            if self.look(id, Action::Wait).await?.is_none() {
                return Ok(());
            }
            sleep(Duration::from_millis(5)).await;
        }
        let mut sleeper = client.subscriber.wakeups.subscribe(&key);
        let ready = client.subscriber.ready(limit).await;
        ready.map_err(|failure| failure.during(self.0.flaw, Action::Wait))?;
        let looks = !matches!(self.0.flaw, Flaw::SubscribesAfterLook | Flaw::SleepsWithoutLooking);
        let holder = if looks { self.look(id, Action::Wait).await? } else { None };
        if holder.is_none() && looks {
            return Ok(());
        }
        let until_free = match holder.and_then(|holder| holder.remaining) {
            _ if self.has(Flaw::Polls) => max.min(Duration::from_millis(200)),
            _ if self.has(Flaw::PollsInsteadOfListening) => {
                sleep(max.min(SELDOM)).await;
                return Ok(());
            }
            Some(left) if !self.has(Flaw::SleepsThroughExpiry) => left.min(max),
            _ => max,
        };
        let _ = timeout(until_free, sleeper.woken()).await;
        Ok(())
    }

    pub(crate) async fn look(
        &self,
        id: &LockId,
        action: Action,
    ) -> Result<Option<Holder>, LockError> {
        let (client, id) = (Arc::clone(&self.0), id.clone());
        self.call(action, async move { client.look(&id, action).await }).await
    }
}

impl fmt::Debug for ToyLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ToyLock");
        shown
            .field("namespace", &self.0.config.namespace)
            .field("endpoint", &self.0.transport.endpoint);
        if self.has(Flaw::OwnerInDebug) {
            shown.field("granted", &self.0.granted());
        }
        shown.finish_non_exhaustive()
    }
}

#[async_trait]
impl Lock for ToyLock {
    fn backend(&self) -> &'static str {
        BACKEND
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(Duration::from_millis(10));
        capabilities.waiting = Waiting::Pushed;
        if self.has(Flaw::ClaimsStoreOrder) || keeps_queue(self.0.flaw) {
            capabilities.fairness = Fairness::Store;
        }
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.ttl(ttl)?;
        if self.has(Flaw::LeaksTasks) {
            tokio::spawn(sleep(ttl));
        }
        let lease = self.acquire_in_time(id, ttl).await?;
        if self.has(Flaw::ClientRenews) {
            self.renew_behind_the_back(&lease, ttl, ttl / 3);
        }
        Ok(lease)
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = if self.has(Flaw::RenewedTtlUnchecked) { ttl } else { self.ttl(ttl)? };
        let (id, owner, sent_at) = (lease.id().clone(), lease.owner().clone(), Instant::now());
        let work = Arc::clone(&self.0).renew(id, owner, ttl);
        let renewed = self.call(Action::Renew, work);
        if self.has(Flaw::GraceWithoutAnswer) && lease.ttl() > GRACE {
            let soon_over = lease.deadline() - GRACE_FROM;
            match timeout_at(soon_over, renewed).await {
                Ok(renewed) => renewed?,
                Err(_) => return Ok(lease.renewed(soon_over, GRACE)),
            }
        } else {
            renewed.await?;
        }
        let late = self.has(Flaw::RenewedDeadlineFromReply);
        let renewed = lease.renewed(if late { Instant::now() } else { sent_at }, ttl);
        if self.has(Flaw::RenewalOutlivesRelease) {
            self.renew_behind_the_back(&renewed, ttl, Duration::from_millis(50));
        }
        Ok(renewed)
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let work = Arc::clone(&self.0).release(lease.id().clone(), lease.owner().clone());
        self.call(Action::Release, work).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        let max = if self.has(Flaw::WaitIgnoresMax) { Duration::from_mins(1) } else { max };
        if self.has(Flaw::ConnectionPerWaiter) {
            let prefix = prefix(self.0.flaw, &self.0.config.namespace);
            let listening = listen(&self.0.transport.endpoint, &prefix).await;
            let _connection =
                listening.map_err(|failure| failure.during(self.0.flaw, Action::Wait))?;
            return self.sleep(id, max).await;
        }
        let leftover = Leftover::of(&self.0).await?;
        let slept = self.sleep(id, max).await;
        if let Some(leftover) = leftover {
            leftover.clear();
        }
        slept
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        self.look(id, Action::Inspect).await
    }
}

#[async_trait]
impl LockHooks for ToyLock {
    fn pending_work(&self) -> &PendingWork {
        // Another one each time, so that none counts what the others do.
        if self.has(Flaw::DrainsAtOnce) { Box::leak(Box::default()) } else { &self.0.pending }
    }

    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        if keeps_queue(self.0.flaw) {
            return Some(Box::pin(self.1.acquire(id, ttl, retry)));
        }
        if !self.has(Flaw::WaiterStaysQueued) {
            return None;
        }
        let (lock, id, mut retry) = (self.clone(), id.clone(), *retry);
        // A caller that counts its tries is not queued again.
        retry.retries_max = Some(u32::MAX);
        let waiter = tokio::spawn(async move {
            let _permit = lock.0.queue.permit(&id).await;
            lock.acquire_with_retry(id, ttl, retry).await
        });
        Some(Box::pin(async { waiter.await.expect("a waiter that does not panic") }))
    }

    fn queue(&self) -> Option<&WaitQueue> {
        let none = self.has(Flaw::NoQueue) || keeps_queue(self.0.flaw);
        Some(&self.0.queue).filter(|_| !none)
    }
}
