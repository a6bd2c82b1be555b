//! `MongoLock`: locks in a MongoDB collection.

use std::{fmt, num::NonZeroU16, sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Fairness, Fencing, Holder, Lease, Lock, LockConfig, LockError, LockId,
    Retry, Waiting, backend,
    toolkit::{BoxFuture, LockHooks, PendingWork, RecordQueue, RenewalBatches},
};
use mongodb::options::ClientOptions;

use crate::{
    acquire,
    client::{Client, Driver, Settings},
    queue::store::MongoQueue,
    renew::{self, MongoRenewals},
    schema::Schema,
    wait,
    watch::Watching,
};

/// Locks in a MongoDB collection: a document each, and one command an operation.
///
/// Cloning is cheap. Clones share the driver's client, a thread on which it is used, the change stream that
/// wakes waiters, and the waiters themselves; stream and thread end with the last clone.
///
/// See the [crate's page](crate) for what it promises, and for the permissions that it needs.
#[derive(Clone)]
pub struct MongoLock {
    pub(crate) client: Arc<Client>,
    queue: Arc<RecordQueue<MongoQueue>>,
    renewals: Arc<RenewalBatches<MongoRenewals>>,
}

/// The shortest TTL: a grant waits for the disks of a majority, and must arrive while it lasts.
const TTL_MIN: Duration = Duration::from_millis(50);
/// The server's clock counts whole milliseconds.
const EXPIRY_LAG: Duration = Duration::from_millis(1);

impl MongoLock {
    /// Locks over the connections of `client`, with [`LockConfig::default`]. No I/O.
    ///
    /// The client's write concern, read concern, read preference and retries do not matter: glock states
    /// its own. Its time limits and its pool do, see the [crate's page](crate). So does the runtime on
    /// which it was made: the driver's tasks live there. If that one computes or ends, no lock is renewed
    /// any more; [`from_options`](Self::from_options) does not depend on any.
    pub fn new(client: mongodb::Client) -> Self {
        Self::with_driver(Driver::of_client(client))
    }

    /// Locks over connections of their own, made by `options`, with [`LockConfig::default`]. No I/O.
    ///
    /// The driver has a thread of its own, whatever the runtimes of the callers do. Options that cannot
    /// work are reported by each call. See [`new`](Self::new) for what does not matter.
    pub fn from_options(options: ClientOptions) -> Self {
        Self::with_driver(Driver::of_options(options))
    }

    fn with_driver(driver: Arc<Driver>) -> Self {
        let config = LockConfig::default();
        let schema = Schema::unchecked(&config);
        Self::from_client(Client::new(driver, config, schema, Settings::default()))
    }

    fn from_client(client: Arc<Client>) -> Self {
        let (waiters, pending) = (client.notified.waiters.clone(), &client.pending);
        let queue = RecordQueue::new(MongoQueue(Arc::clone(&client)), waiters, pending);
        let renewals = RenewalBatches::new(MongoRenewals(Arc::clone(&client)));
        Self { client, queue, renewals }
    }

    /// Sets the configuration. This store reads `namespace`, `call_timeout`, `holder`, `database`,
    /// `collection` and `ttl_field`.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a setting that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        let (schema, settings) = (Schema::new(&config)?, self.client.settings);
        Ok(Self::from_client(self.client.rebuild(config, schema, settings)))
    }

    /// Opens no change stream: a client's waiters send a heartbeat about seven times a second instead. For a user
    /// without the permission to watch, or a server to which a stream is too dear.
    #[must_use]
    pub fn without_watch(self) -> Self {
        let settings = Settings { watching: Watching::None, ..self.client.settings };
        self.with_settings(settings)
    }

    /// Sets how many commands a client has in flight at most; those beyond it wait for their turn. Default:
    /// 12, which suits the driver's default `max_pool_size` of 10. Raise both together.
    #[must_use]
    pub fn with_in_flight_max(self, in_flight_max: NonZeroU16) -> Self {
        let in_flight_max = in_flight_max.get().into();
        let settings = Settings { in_flight_max, ..self.client.settings };
        self.with_settings(settings)
    }

    /// Creates the collection unless it exists, and checks that locks can live in it. Any number of
    /// processes may do so at once. It makes no index: glock needs none but that of `_id`.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`], [`Rejected`](glock_core::Fault::Rejected) if the collection may not be
    /// created, or if it is a view, a capped or a time series collection, has a collation or a
    /// validator, or has an index that deletes documents at the end of their lease.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it is carried out in the background.
    pub async fn ensure_schema(&self) -> Result<(), LockError> {
        let client = Arc::clone(&self.client);
        let call = self.client.call(Action::Prepare)?;
        let until = call.deadline();
        call.run(async move { client.schema.ensure(client.commands.sender(), until).await }).await
    }

    fn with_settings(self, settings: Settings) -> Self {
        let (config, schema) = (self.client.config.clone(), self.client.schema.clone());
        Self::from_client(self.client.rebuild(config, schema, settings))
    }
}

#[async_trait]
impl Lock for MongoLock {
    fn backend(&self) -> &'static str {
        backend::MONGODB
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(TTL_MIN);
        capabilities.expiry_lag = EXPIRY_LAG;
        capabilities.fairness = Fairness::Store;
        // A token is at least the clock, so losing the document alone does not set it back.
        capabilities.fencing = Fencing::LostWritesAndClock;
        if self.client.turns.reports() {
            capabilities.waiting = Waiting::Pushed;
        }
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        acquire::acquire(&self.client, id, ttl, None).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        renew::renew(&self.client, lease, ttl).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let client = Arc::clone(&self.client);
        let (id, owner, deadline) = (lease.id().clone(), lease.owner().clone(), lease.deadline());
        let call = self.client.call(Action::Release)?;
        let until = call.deadline();
        call.run(async move { client.release(&id, &owner, Some(deadline), until).await }).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        wait::wait(&self.client, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let (client, key) = (Arc::clone(&self.client), self.client.schema.key(id));
        let call = self.client.call(Action::Inspect)?;
        let until = call.deadline();
        call.run(async move { client.commands.inspect(&key, until).await }).await
    }
}

#[async_trait]
impl LockHooks for MongoLock {
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
        self.renewals.renew(self, lease, ttl)
    }
}

impl fmt::Debug for MongoLock {
    /// Shows nothing of the driver's client: its settings hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoLock")
            .field("database", &self.client.schema.database)
            .field("collection", &self.client.schema.collection)
            .field("namespace", &self.client.config.namespace)
            .field("watch", &self.client.turns)
            .field("watch_releases", &self.client.releases)
            .finish_non_exhaustive()
    }
}
