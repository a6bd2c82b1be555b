//! `PostgresLock`: locks in a PostgreSQL table.

use std::{fmt, num::NonZeroU32, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Fairness, Fencing, Holder, Lease, Lock, LockConfig, LockError, LockId,
    Retry, Waiting, backend,
    toolkit::{BoxFuture, LockHooks, PendingWork, RecordQueue, RenewalBatches},
};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{
    acquire,
    client::{Client, ListenerSource},
    queue::store::PostgresQueue,
    renew::{self, PostgresRenewals},
    schema::Schema,
    wait,
};

/// Locks in a PostgreSQL table: a row each, and one statement an operation.
///
/// Cloning is cheap. Clones share their connections and the queue of waiters; the connections end with
/// the last clone.
///
/// See the [crate's page](crate) for what it promises, and for the table that it needs.
#[derive(Clone)]
pub struct PostgresLock {
    pub(crate) client: Arc<Client>,
    queue: Arc<RecordQueue<PostgresQueue>>,
    renewals: Arc<RenewalBatches<PostgresRenewals>>,
}

const CONNECTIONS_MAX: u32 = 10;
const TTL_MIN: Duration = Duration::from_millis(10);

impl PostgresLock {
    /// Locks on the database of `pool`, with [`LockConfig::default`]. No I/O.
    ///
    /// The pool only names the server: the lock opens a few connections of its own with the pool's
    /// settings, as they are when it connects, and takes none from the pool. Once the pool is closed, locks
    /// that are held can be renewed and released, and nothing else.
    pub fn new(pool: PgPool) -> Self {
        let config = LockConfig::default();
        let schema = Schema::unchecked(&config);
        let client = Client::new(pool, config, schema, ListenerSource::Pool, CONNECTIONS_MAX);
        Self::from_client(client)
    }

    fn from_client(client: Client) -> Self {
        let client = Arc::new(client);
        let waiters = client.notified.waiters.clone();
        let queue = RecordQueue::new(PostgresQueue(Arc::clone(&client)), waiters, &client.pending);
        let renewals = RenewalBatches::new(PostgresRenewals(Arc::clone(&client)));
        Self { client, queue, renewals }
    }

    /// Connects to `url`.
    ///
    /// # Errors
    ///
    /// - [`LockError::Invalid`] if `url` is not a PostgreSQL URL.
    /// - [`LockError::Backend`] if the server cannot be reached or refuses.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn connect(url: &str) -> Result<Self, LockError> {
        let ours = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
        // The driver takes any scheme, and its own error may repeat a part of the URL.
        let options = PgConnectOptions::from_str(url).ok().filter(|_| ours).ok_or_else(|| {
            LockError::invalid("url", "write it like postgres://user:password@host:5432/database")
        })?;
        // It never connects, and without limits of time it starts no task.
        let pool = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
        let this = Self::new(pool.connect_lazy_with(options));
        let connected = this.client.connections.connect().await;
        connected.map_err(|failure| failure.during(Action::Prepare))?;
        Ok(this)
    }

    /// Opens at most `count` connections for calls: ten by default. One more listens for releases, and two
    /// more may be open for a moment to ask the server about statements without a reply. Of four or more,
    /// two are kept for renewals and releases.
    #[must_use]
    pub fn with_max_connections(self, count: NonZeroU32) -> Self {
        let (config, schema) = (self.client.config.clone(), self.client.schema.clone());
        self.rebuild(config, schema, self.client.listener.source().clone(), count.get())
    }

    /// Sets the configuration. This store reads `namespace`, `call_timeout`, `holder`, `table`,
    /// `lock_field` and `ttl_field`.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a setting that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        let (schema, source) = (Schema::new(&config)?, self.client.listener.source().clone());
        let connections_max = self.client.connections.connections_max();
        Ok(self.rebuild(config, schema, source, connections_max))
    }

    /// Listens for releases on a connection made with `options` instead of the pool's: for a pool
    /// behind a pooler which shares connections between transactions. It must lead to the same
    /// database.
    #[must_use]
    pub fn with_listener(self, options: PgConnectOptions) -> Self {
        self.with_source(ListenerSource::Own(Box::new(options)))
    }

    /// Does not listen for releases: waiters poll about five times a second instead.
    #[must_use]
    pub fn without_listener(self) -> Self {
        self.with_source(ListenerSource::None)
    }

    /// Creates the table unless it exists, and checks its columns. Any number of processes may do so at
    /// once. If the table exists, no permission is needed.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`], [`Rejected`](glock_core::Fault::Rejected) if the table may not be
    /// created, or if another one has that name.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it is carried out in the background.
    pub async fn ensure_schema(&self) -> Result<(), LockError> {
        let client = Arc::clone(&self.client);
        let work = async move { client.schema.ensure(&client.connections).await };
        self.client.call(Action::Prepare).run(work).await
    }

    /// The statement with which [`ensure_schema`](Self::ensure_schema) creates the table, for a role
    /// that may create tables.
    pub fn schema_sql(&self) -> String {
        self.client.schema.sql()
    }

    fn with_source(self, source: ListenerSource) -> Self {
        let (config, schema) = (self.client.config.clone(), self.client.schema.clone());
        self.rebuild(config, schema, source, self.client.connections.connections_max())
    }

    fn rebuild(
        &self,
        config: LockConfig,
        schema: Schema,
        source: ListenerSource,
        connections_max: u32,
    ) -> Self {
        let pool = self.client.connections.pool().clone();
        Self::from_client(Client::new(pool, config, schema, source, connections_max))
    }
}

#[async_trait]
impl Lock for PostgresLock {
    fn backend(&self) -> &'static str {
        backend::POSTGRES
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(TTL_MIN);
        capabilities.fairness = Fairness::Store;
        // A token is at least the clock, so losing the row alone does not set it back.
        capabilities.fencing = Fencing::LostWritesAndClock;
        if self.client.listener.notifies() {
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
        let has_expired = move || tokio::time::Instant::now() >= deadline;
        let call = self.client.call(Action::Release);
        let until = call.deadline();
        let work = async move { client.release(&id, &owner, until, has_expired).await };
        call.run(work).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        wait::wait(&self.client, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let (client, key) = (Arc::clone(&self.client), self.client.key(id));
        let call = self.client.call(Action::Inspect);
        let until = call.deadline();
        let work = async move {
            let holder = client.commands.inspect(&key, until).await;
            holder.map_err(|failure| failure.during(Action::Inspect))
        };
        call.run(work).await
    }
}

#[async_trait]
impl LockHooks for PostgresLock {
    fn pending_work(&self) -> &PendingWork {
        &self.client.pending
    }

    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        Some(Box::pin(async move {
            tokio::select! {
                // Biased, because a wait on a closed pool has nothing to wait for.
                biased;
                failure = self.client.connections.closed() => Err(failure.during(Action::Acquire)),
                acquired = self.queue.acquire(id, ttl, retry) => acquired,
            }
        }))
    }

    fn renew_together<'a>(
        &'a self,
        lease: &'a Lease,
        ttl: Duration,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        self.renewals.renew(self, lease, ttl)
    }
}

impl fmt::Debug for PostgresLock {
    /// Shows nothing of the pool: its settings hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresLock")
            .field("table", &self.client.schema.table)
            .field("namespace", &self.client.config.namespace)
            .field("listener", &self.client.listener)
            .finish_non_exhaustive()
    }
}
