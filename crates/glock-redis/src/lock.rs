//! `RedisLock`: a lock is a string at one key, and scripts work on it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, BoxError, Capabilities, Fairness, Fencing, Holder, Lease, Lock, LockConfig, LockError,
    LockId, Retry, backend,
    toolkit::{BoxFuture, LockHooks, PendingWork, RecordQueue, RenewalBatches},
};
use redis::aio::ConnectionLike;

use crate::{
    acquire,
    client::{self, Client, Credentials, Origin, Route, Server, Settings},
    queue::store::RedisQueue,
    renew::RedisRenewals,
    wait,
};

/// Locks on a Redis or Valkey server. Cloning is cheap: clones share connections and waiters.
///
/// See the [crate's front page](crate) for what it promises and what it leaves behind.
#[derive(Clone)]
pub struct RedisLock {
    pub(crate) client: Arc<Client>,
    queue: Arc<RecordQueue<RedisQueue>>,
    /// `None` on a cluster, where each node has a part of the locks, or where that is not known.
    renewals: Option<Arc<RenewalBatches<RedisRenewals>>>,
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
        Self::from_server(Server::Named(Arc::new(client)))
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
        Self::from_server(Server::Caller(Arc::new(connection)))
    }

    /// Locks on a cluster, over connections of glock's own: one to each node that serves slots. `seeds`
    /// are some of its nodes; the others are learned from them.
    ///
    /// TLS, credentials and the rest of the settings are the first seed's.
    pub fn cluster(seeds: impl IntoIterator<Item = redis::Client>) -> Self {
        Self::from_origin(Origin::Cluster(seeds.into_iter().map(Arc::new).collect()))
    }

    /// Locks on the primary that sentinels name, over one connection of glock's own. Each time it
    /// is made, the sentinels name the primary again.
    #[cfg(feature = "sentinel")]
    pub fn sentinel(client: redis::sentinel::SentinelClient) -> Self {
        Self::from_server(Server::Primary(Arc::new(tokio::sync::Mutex::new(client))))
    }

    /// Uses other settings. Clones made before keep theirs.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if [`LockConfig::check`] finds one that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        Ok(self.with_settings(|settings| settings.config = config))
    }

    /// Has waiters woken by messages, over a connection of glock's own to the server that `client`
    /// names. For locks whose connection cannot subscribe by itself.
    #[must_use]
    pub fn with_subscriber(self, client: redis::Client) -> Self {
        self.with_settings(|settings| settings.subscriber = Some(Arc::new(client)))
    }

    /// Logs in with what `function` returns at that time, each time glock makes a connection: for
    /// passwords that are rotated and tokens that end. An error of it counts as a server that is out of
    /// reach, so it is called again with the next attempt. It should return within a second or so.
    #[must_use]
    pub fn with_credentials<F, R>(self, function: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Credentials, BoxError>> + Send + 'static,
    {
        self.with_settings(|settings| settings.credentials = Some(client::provider(function)))
    }

    /// Another client, from the same servers.
    fn with_settings(&self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.client.settings.clone();
        change(&mut settings);
        Self::from_settings(settings)
    }

    fn from_server(server: Server) -> Self {
        Self::from_origin(Origin::Server(server))
    }

    fn from_origin(origin: Origin) -> Self {
        let config = LockConfig::default();
        let settings = Settings { config, origin, subscriber: None, credentials: None };
        Self::from_settings(settings)
    }

    fn from_settings(settings: Settings) -> Self {
        let client = Client::new(settings);
        let waiters = client.notified.waiters.clone();
        let queue = RecordQueue::new(RedisQueue(Arc::clone(&client)), waiters, &client.pending);
        let is_one = matches!(client.route, Route::One(_)) && client.caller_s_server().is_none();
        let renewals = is_one.then(|| RenewalBatches::new(RedisRenewals(Arc::clone(&client))));
        Self { client, queue, renewals }
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
        capabilities.fairness = Fairness::Store;
        capabilities.fencing = Fencing::LostWritesAndClock;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        acquire::acquire(&self.client, id, self.capabilities().ttl(ttl)?, None).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let (call, client) = (self.client.call(Action::Renew), Arc::clone(&self.client));
        let (id, owner) = (lease.id().clone(), lease.owner().clone());
        call.renew(lease, ttl, |until| client.renew(id, owner, ttl, until)).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let (call, client) = (self.client.call(Action::Release), Arc::clone(&self.client));
        let (id, owner, deadline) = (lease.id().clone(), lease.owner().clone(), lease.deadline());
        let until = call.deadline();
        call.run(client.release(id, owner, Some(deadline), until)).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        wait::wait(&self.client, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let (call, key) = (self.client.call(Action::Inspect), self.client.schema.key(id).into());
        let until = call.deadline();
        call.run(Arc::clone(&self.client).inspect(Action::Inspect, key, until)).await
    }
}

#[async_trait]
impl LockHooks for RedisLock {
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

    fn renew_together<'a>(
        &'a self,
        lease: &'a Lease,
        ttl: Duration,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        self.renewals.as_ref()?.renew(self, lease, ttl)
    }
}

impl fmt::Debug for RedisLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLock")
            .field("namespace", &self.client.config().namespace)
            .field("waiting", &self.client.waiting())
            .finish_non_exhaustive()
    }
}
