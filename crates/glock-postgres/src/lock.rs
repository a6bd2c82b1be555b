//! `PostgresLock`: locks in a PostgreSQL table.

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, CALL_TIMEOUT, Capabilities, Fencing, Holder, Lease, Lock, LockConfig, LockError,
    LockId, OwnerToken, Waiting, backend,
    toolkit::{Call, FnAttempt, LockHooks, WaitQueue},
};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{error::Failure, listener::Source, schema::Schema, session::Way, store::Store, wait};

/// Locks in a PostgreSQL table: a row each, and one statement an operation.
///
/// Cloning is cheap. Clones share the pool, the connection that listens for releases, and the line
/// in which waiters stand; both the connection and its task end with the last clone.
///
/// See the [crate's page](crate) for what it promises, and for the table that it needs.
#[derive(Clone)]
pub struct PostgresLock {
    store: Arc<Store>,
}

const TTL_MIN: Duration = Duration::from_millis(10);

impl PostgresLock {
    /// Locks on the database that `pool` leads to, with [`LockConfig::default`]. No I/O.
    ///
    /// Make the pool with [`pool_options`](Self::pool_options), so that a call takes one round
    /// trip.
    pub fn new(pool: PgPool) -> Self {
        let config = LockConfig::default();
        let schema = Schema::unchecked(&config);
        Self::build(pool, config, schema, Source::Pool)
    }

    /// Connects to `url` with [`pool_options`](Self::pool_options), and lets no statement run
    /// longer than [`CALL_TIMEOUT`], for which a call waits by default. For a longer `call_timeout`,
    /// or behind a connection pooler, which may not take that setting, make a pool and use
    /// [`new`](Self::new).
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
        // The driver takes any scheme, and its own words may repeat a part of the URL.
        let options = PgConnectOptions::from_str(url).ok().filter(|_| ours).ok_or_else(|| {
            LockError::invalid("url", "it must be like postgres://user:password@host:5432/database")
        })?;
        let limit = format!("{}ms", CALL_TIMEOUT.as_millis());
        let options = options.options([("statement_timeout", limit)]);
        let pool = Self::pool_options().connect_with(options).await;
        let pool = pool.map_err(|err| Failure::unsent(err).during(Action::Prepare))?;
        Ok(Self::new(pool))
    }

    /// Settings for a pool: no ping before each use, because a dead connection is replaced when it
    /// is noticed, and little patience with a server that is out of reach: three quarters of
    /// [`CALL_TIMEOUT`].
    pub fn pool_options() -> PgPoolOptions {
        PgPoolOptions::new().test_before_acquire(false).acquire_timeout(CALL_TIMEOUT * 3 / 4)
    }

    /// Sets the configuration; from [`LockConfig`] are read `namespace`, `call_timeout`, `holder`,
    /// `table`, `lock_field` and `ttl_field`.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a setting that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        let schema = Schema::new(&config)?;
        let pool = self.store.session.pool().clone();
        Ok(Self::build(pool, config, schema, self.store.listener.source().clone()))
    }

    /// Listens for releases on a connection made with `options`, instead of the pool's own: for a
    /// pool that leads through a pooler which shares connections between transactions. It must lead
    /// to the same database.
    #[must_use]
    pub fn with_listener(self, options: PgConnectOptions) -> Self {
        self.with_source(Source::Own(Box::new(options)))
    }

    /// Does not listen for releases: waiters ask about five times a second instead.
    #[must_use]
    pub fn without_listener(self) -> Self {
        self.with_source(Source::Nowhere)
    }

    /// Creates the table unless it is there, and checks that its columns are as they should be.
    /// Any number of processes may do so at once. If the table is there, no permission is needed.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`], [`Rejected`](glock_core::Fault::Rejected) if the table may not be
    /// created, or if there is another one of that name.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it is carried out in the background.
    pub async fn ensure_schema(&self) -> Result<(), LockError> {
        let store = Arc::clone(&self.store);
        let work = async move { store.schema.ensure(&store.session).await };
        self.call(Action::Prepare).run(work).await
    }

    /// The statement that [`ensure_schema`](Self::ensure_schema) creates the table with, for
    /// whoever may do so.
    pub fn schema_sql(&self) -> String {
        self.store.schema.sql()
    }

    fn with_source(self, source: Source) -> Self {
        let store = &self.store;
        let pool = store.session.pool().clone();
        Self::build(pool, store.config.clone(), store.schema.clone(), source)
    }

    fn build(pool: PgPool, config: LockConfig, schema: Schema, source: Source) -> Self {
        Self { store: Arc::new(Store::new(pool, config, schema, source)) }
    }

    fn call(&self, action: Action) -> Call {
        Call::new(backend::POSTGRES, action, self.store.config.call_timeout)
    }
}

#[async_trait]
impl Lock for PostgresLock {
    fn backend(&self) -> &'static str {
        backend::POSTGRES
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(TTL_MIN);
        // A token is at least the clock, so losing the row alone does not set it back.
        capabilities.fencing = Fencing::LostWritesAndClock;
        if self.store.listener.is_heard() {
            capabilities.waiting = Waiting::Pushed;
        }
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        // Gone with this future: then a try that was not sent yet need not be.
        let waiting = Arc::new(());
        let attempt = |before| {
            let owner = OwnerToken::random()?;
            let work = {
                let (store, id, owner) = (Arc::clone(&self.store), id.clone(), owner.clone());
                let way = Way::Once { future: Arc::downgrade(&waiting), again: before > 0 };
                async move { store.acquire(way, id, owner, ttl).await }
            };
            let undo = {
                let (store, id) = (Arc::clone(&self.store), id.clone());
                move || {
                    let (store, id, owner) = (Arc::clone(&store), id.clone(), owner.clone());
                    async move { store.release(&id, &owner, || true).await }
                }
            };
            Ok(FnAttempt::new(work, undo))
        };
        self.call(Action::Acquire).acquire_retrying(ttl, attempt).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let store = Arc::clone(&self.store);
        let (id, owner, fence) = (lease.id().clone(), lease.owner().clone(), lease.fence());
        let work = async move { store.renew(id, owner, fence, ttl).await };
        self.call(Action::Renew).run(work).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let store = Arc::clone(&self.store);
        let (id, owner, deadline) = (lease.id().clone(), lease.owner().clone(), lease.deadline());
        let expired = move || tokio::time::Instant::now() >= deadline;
        let work = async move { store.release(&id, &owner, expired).await };
        self.call(Action::Release).run(work).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        wait::wait(&self.store, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let (store, id) = (Arc::clone(&self.store), id.clone());
        self.call(Action::Inspect).run(async move { store.inspect(&id).await }).await
    }
}

#[async_trait]
impl LockHooks for PostgresLock {
    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.store.queue)
    }
}

impl fmt::Debug for PostgresLock {
    /// Nothing of the pool: its settings hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresLock")
            .field("table", &self.store.schema.table)
            .field("namespace", &self.store.config.namespace)
            .field("listener", &self.store.listener)
            .finish_non_exhaustive()
    }
}
