//! `ConsulLock`: the [`Lock`] on Consul.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Capabilities, Clock, Fairness, Fencing, Holder, Lease, Lock, LockConfig, LockError,
    LockId, Retry, Waiting, async_trait, backend,
    toolkit::{BoxFuture, LockHooks, PendingWork, RecordQueue},
};

use crate::{
    client::{Client, ConsulClient},
    queue::store::ConsulQueue,
};

/// Locks on Consul. Clones share connections, spare sessions and the waiters.
///
/// See the [crate's documentation](crate) for what it promises and what breaks it.
#[derive(Debug, Clone)]
pub struct ConsulLock {
    pub(crate) client: Arc<Client>,
    queue: Arc<RecordQueue<ConsulQueue>>,
}

/// Consul's limits of a session's TTL, unless `session_ttl_min` of the servers says otherwise.
const TTL_MIN: Duration = Duration::from_secs(10);
const TTL_MAX: Duration = Duration::from_hours(24);

impl ConsulLock {
    /// A lock with the default settings. Nothing is sent.
    pub fn new(client: ConsulClient) -> Self {
        Self::from_parts(client, LockConfig::default(), TTL_MIN)
    }

    fn from_parts(client: ConsulClient, config: LockConfig, ttl_min: Duration) -> Self {
        let client = Arc::new(Client::new(client, config, ttl_min));
        let (waiters, pending) = (client.waiters.registry.clone(), &client.pending);
        let queue = RecordQueue::new(ConsulQueue(Arc::clone(&client)), waiters, pending);
        Self { client, queue }
    }

    /// Takes over the namespace, call time limit and holder label.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if a setting cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        Ok(Self::from_parts(self.client.consul.clone(), config, self.client.ttl_min))
    }

    /// Offers TTLs down to `ttl_min`, for servers whose `session_ttl_min` is not the default of 10 s.
    /// Servers with a longer one refuse a shorter TTL.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if it is zero or more than the longest TTL, which is a day.
    pub fn with_session_ttl_min(self, ttl_min: Duration) -> Result<Self, LockError> {
        if ttl_min < Duration::from_millis(1) || ttl_min > TTL_MAX {
            return Err(LockError::invalid("session_ttl_min", "give 1 ms to 24 h"));
        }
        let Client { consul, config, .. } = &*self.client;
        Ok(Self::from_parts(consul.clone(), config.clone(), ttl_min))
    }
}

#[async_trait]
impl Lock for ConsulLock {
    fn backend(&self) -> &'static str {
        backend::CONSUL
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(self.client.ttl_min);
        capabilities.ttl_max = TTL_MAX;
        // A server ends a session between once and twice its TTL after the last renewal.
        capabilities.expiry_lag_percent = 100;
        capabilities.clock = Clock::Store;
        capabilities.waiting = Waiting::Pushed;
        capabilities.fairness = Fairness::Store;
        capabilities.fencing = Fencing::Restore;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        self.client.acquire(id, self.capabilities().ttl(ttl)?, None).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        self.client.renew(lease, self.capabilities().ttl(ttl)?).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        self.client.release(lease).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        self.client.wait(id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let entry = self.client.read(Action::Inspect, id).await?;
        Ok(entry.and_then(|entry| entry.holder()))
    }
}

#[async_trait]
impl LockHooks for ConsulLock {
    fn pending_work(&self) -> &PendingWork {
        &self.client.pending
    }

    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        Some(Box::pin(self.queue.acquire(id, ttl, retry)))
    }

    fn ended<'a>(&'a self, lease: &'a Lease) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(self.client.ended(lease)))
    }
}
