//! `SqliteLock`: locks in one SQLite file.

use std::{fmt, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Fairness, Fencing, Holder, Lease, Lock, LockConfig, LockError, LockId,
    Retry, Waiting, backend,
    toolkit::{BoxFuture, LockHooks, PendingWork, RecordQueue, RenewalBatches},
};
use sqlx::sqlite::SqliteConnectOptions;

use crate::{
    acquire,
    client::Client,
    queue::store::SqliteQueue,
    renew::{self, SqliteRenewals},
    wait,
};

/// Locks in one SQLite file, for the processes of one machine: a row each, and one statement an operation.
///
/// Cloning is cheap. Clones share their connections and the queue of waiters; the connections end with
/// the last clone.
///
/// See the [crate's page](crate) for what it promises, and for which file to name.
#[derive(Clone)]
pub struct SqliteLock {
    pub(crate) client: Arc<Client>,
    queue: Arc<RecordQueue<SqliteQueue>>,
    renewals: Arc<RenewalBatches<SqliteRenewals>>,
}

const TTL_MIN: Duration = Duration::from_millis(10);

impl SqliteLock {
    /// Opens the file at `path`, which is made unless it is there, with [`LockConfig::default`]. Any number
    /// of processes may do so at once.
    ///
    /// # Errors
    ///
    /// - [`LockError::Invalid`] if `path` can name no file.
    /// - [`LockError::Backend`] if the file cannot be opened and written, is on a file system that other
    ///   machines may share, or belongs to another program.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, LockError> {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let this = Self::new(&options)?;
        let client = Arc::clone(&this.client);
        let call = this.client.call(Action::Prepare);
        let until = call.deadline();
        let work = async move {
            let connected = client.connections().connect(until).await;
            connected.map_err(|failure| failure.during(Action::Prepare))
        };
        call.run(work).await?;
        Ok(this)
    }

    /// Locks in the file that `options` name, with [`LockConfig::default`]. No I/O: the first call opens
    /// the file, and makes its tables unless they are there.
    ///
    /// The lock opens connections of its own with these options. How long they wait for others, when they
    /// wait for the disk, and the cache that they use are its own.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if the options name no file.
    pub fn new(options: &SqliteConnectOptions) -> Result<Self, LockError> {
        let client = Client::new(options, LockConfig::default())?;
        Ok(Self::from_client(client))
    }

    fn from_client(client: Client) -> Self {
        let client = Arc::new(client);
        let waiters = client.notified.waiters.clone();
        let queue = RecordQueue::new(SqliteQueue(Arc::clone(&client)), waiters, &client.pending);
        let renewals = RenewalBatches::new(SqliteRenewals(Arc::clone(&client)));
        Self { client, queue, renewals }
    }

    /// Sets the configuration. This store reads `namespace`, `call_timeout` and `holder`.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a setting that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        let connections = self.client.connections().clone();
        Ok(Self::from_client(Client::on(connections, config)))
    }
}

#[async_trait]
impl Lock for SqliteLock {
    fn backend(&self) -> &'static str {
        backend::SQLITE
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(TTL_MIN);
        // A token is at least the clock, so losing the file alone does not set it back.
        capabilities.fencing = Fencing::LostWritesAndClock;
        capabilities.waiting = Waiting::Pushed;
        capabilities.fairness = Fairness::Store;
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
        let (id, owner) = (lease.id().clone(), lease.owner().clone());
        let call = self.client.call(Action::Release);
        let until = call.deadline();
        call.run(async move { client.release(&id, &owner, until).await }).await
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
impl LockHooks for SqliteLock {
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

impl fmt::Debug for SqliteLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteLock")
            .field("path", &self.client.connections().database().file.path())
            .field("namespace", &self.client.config.namespace)
            .finish_non_exhaustive()
    }
}
