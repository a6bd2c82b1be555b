//! `RedisLock`: a lock is a hash at one key, and four scripts work on it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Fencing, Holder, Lease, Lock, LockConfig, LockError, LockId, backend,
    toolkit::{LockHooks, PendingWork, WaitQueue},
};
use redis::aio::ConnectionLike;

use crate::{
    acquire,
    client::{Client, Source},
    wait,
};

/// Locks on a Redis or Valkey server. Cloning is cheap: clones share connections and waiters.
///
/// See the [crate's front page](crate) for what it promises and what it leaves behind.
#[derive(Clone)]
pub struct RedisLock {
    client: Arc<Client>,
}

/// The shortest TTL: five times the least margin that a lease's deadline keeps.
const TTL_MIN: Duration = Duration::from_millis(10);
/// The server counts in whole milliseconds and frees a key after the last one.
const EXPIRY_LAG: Duration = Duration::from_millis(1);

impl RedisLock {
    /// Locks on the server that `client` names, over one connection of glock's own. No I/O: the
    /// connection is made on first use, and again when it is lost.
    ///
    /// Address, TLS, credentials and database are the client's. glock sets protocol (RESP3),
    /// `TCP_NODELAY` and time limits, and keep-alive and user time-out where the client sets none.
    pub fn new(client: redis::Client) -> Self {
        Self::from_source(Source::Server(Arc::new(client)))
    }

    /// Locks over a connection that the application manages: a `MultiplexedConnection`, a
    /// `ConnectionManager`, a `ClusterConnection`.
    ///
    /// Waiters look at the lock from time to time, unless
    /// [`with_subscriber`](Self::with_subscriber) is called. Set the connection's `TCP_NODELAY` and
    /// its response time-out (the driver's default is 500 ms) yourself; one that cannot reconnect
    /// ends with its first failure.
    pub fn from_connection<C>(connection: C) -> Self
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        Self::from_source(Source::Caller(Arc::new(connection)))
    }

    /// Locks on a cluster, over connections of glock's own.
    ///
    /// Waiters look at the lock from time to time, unless
    /// [`with_subscriber`](Self::with_subscriber) is given a client of any of its nodes.
    #[cfg(feature = "cluster")]
    pub fn cluster(client: redis::cluster::ClusterClient) -> Self {
        Self::from_source(Source::Cluster(Arc::new(client)))
    }

    /// Locks on the primary that sentinels name, over one connection of glock's own. Each time it
    /// is made, the sentinels name the primary again.
    #[cfg(feature = "sentinel")]
    pub fn sentinel(client: redis::sentinel::SentinelClient) -> Self {
        Self::from_source(Source::Sentinel(Arc::new(tokio::sync::Mutex::new(client))))
    }

    /// Uses other settings. Clones made before keep theirs.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if [`LockConfig::check`] finds one that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        Ok(Self { client: self.client.with_config(config) })
    }

    /// Has waiters woken by messages, over a connection of glock's own to the server that `client`
    /// names. For locks whose connection cannot subscribe by itself.
    #[must_use]
    pub fn with_subscriber(self, client: redis::Client) -> Self {
        Self { client: self.client.with_subscriber(Source::Server(Arc::new(client))) }
    }

    fn from_source(source: Source) -> Self {
        Self { client: Client::new(LockConfig::default(), source, None) }
    }
}

#[async_trait]
impl Lock for RedisLock {
    fn backend(&self) -> &'static str {
        backend::REDIS
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(TTL_MIN);
        capabilities.expiry_lag = EXPIRY_LAG;
        capabilities.waiting = self.client.waiting();
        capabilities.fencing = Fencing::LostWritesAndClock;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        acquire::acquire(&self.client, id, self.capabilities().ttl(ttl)?).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let client = Arc::clone(&self.client);
        let renewed = client.renew(lease.id().clone(), lease.owner().clone(), ttl);
        let sent_at = self.client.call(Action::Renew).run(renewed).await?;
        Ok(lease.renewed(sent_at, ttl))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let (client, deadline) = (Arc::clone(&self.client), Some(lease.deadline()));
        let released = client.release(lease.id().clone(), lease.owner().clone(), deadline);
        self.client.call(Action::Release).run(released).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        wait::wait(&self.client, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let (client, key) = (Arc::clone(&self.client), self.client.schema.key(id).into());
        self.client.call(Action::Inspect).run(client.inspect(Action::Inspect, key)).await
    }
}

#[async_trait]
impl LockHooks for RedisLock {
    fn pending_work(&self) -> &PendingWork {
        &self.client.pending
    }

    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.client.queue)
    }
}

impl fmt::Debug for RedisLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLock")
            .field("namespace", &self.client.config.namespace)
            .field("waiting", &self.client.waiting())
            .finish_non_exhaustive()
    }
}
