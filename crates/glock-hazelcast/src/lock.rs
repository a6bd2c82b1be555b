//! `HazelcastLock`: the [`Lock`] on the key locks of a map.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Clock, Fairness, Fencing, Holder, Lease, Lock, LockConfig, LockError,
    LockId, Retry, Waiting, backend,
    toolkit::{BoxFuture, LockHooks, PendingWork},
};

use crate::{
    client::{HazelcastClient, LeaseRef, MapClient},
    wait,
};

/// Locks on the keys of a Hazelcast map: on every edition. Cloning is cheap.
///
/// See the [crate's front page](crate) for what it promises, which is less than
/// [`HazelcastFencedLock`](crate::HazelcastFencedLock) does, and for what it leaves behind.
#[derive(Debug, Clone)]
pub struct HazelcastLock {
    pub(crate) client: Arc<MapClient>,
}

const TTL_MIN: Duration = Duration::from_secs(1);
/// Members end leases by whole seconds, and the lock requests a second more than its TTL.
const EXPIRY_LAG: Duration = Duration::from_secs(2);

impl HazelcastLock {
    /// Locks on the cluster of `client`. No I/O: it connects on first use.
    pub fn new(client: HazelcastClient) -> Self {
        Self { client: Arc::new(MapClient::with_defaults(client)) }
    }

    /// Uses other settings: the map's name, the namespace, the time limit of calls, the holder's label.
    /// Clones made before keep theirs.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if a setting cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        Ok(Self { client: Arc::new(MapClient::new(self.client.hazelcast.clone(), config)?) })
    }
}

#[async_trait]
impl Lock for HazelcastLock {
    fn backend(&self) -> &'static str {
        backend::HAZELCAST
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(TTL_MIN);
        capabilities.expiry_lag = EXPIRY_LAG;
        capabilities.clock = Clock::Store;
        // Members free what a client has locked when its connections are gone.
        capabilities.ends_with_client = true;
        capabilities.waiting = Waiting::Pushed;
        // Members keep one place for each client, and lose it every five seconds.
        capabilities.fairness = Fairness::Client;
        capabilities.fencing = Fencing::LostWritesAndClock;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        self.client.acquire(id, self.capabilities().ttl(ttl)?).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let call = self.client.call(Action::Renew);
        let until = call.deadline().for_lease(lease);
        let (client, renewed) = (Arc::clone(&self.client), LeaseRef::of(lease));
        let renew = async move { client.renew(renewed, ttl, until).await };
        let renewed = call.run(renew).await?;
        Ok(lease.renewed(renewed.sent_at, renewed.ttl).bound_to(renewed.session))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let call = self.client.call(Action::Release);
        let (client, lease, until) =
            (Arc::clone(&self.client), LeaseRef::of(lease), call.deadline());
        call.run(async move { client.release(lease, until).await }).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        wait::until_free(&self.client, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        wait::look(&self.client, Action::Inspect, id).await
    }
}

#[async_trait]
impl LockHooks for HazelcastLock {
    fn pending_work(&self) -> &PendingWork {
        &self.client.pending
    }

    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        Some(Box::pin(wait::parked(&self.client, id, ttl, retry)))
    }
}
