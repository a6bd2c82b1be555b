//! `DynamoDbLock`: locks in a DynamoDB table.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client as SdkClient;
use glock_core::{
    Action, Capabilities, Clock, Fairness, Fencing, Holder, Lease, Lock, LockConfig, LockError,
    LockId, Retry, backend,
    toolkit::{BoxFuture, Call, LockHooks, PendingWork, RecordQueue},
};

use crate::{
    acquire,
    client::{CREATION_MAX, Client, LeaseEnd, create_table},
    queue::{
        pauses::{POLL_MAX, POLL_MIN},
        store::DynamoDbQueue,
    },
    renew,
    schema::Table,
    wait,
};

/// Locks in a DynamoDB table: an item each, and one request an operation.
///
/// Cloning is cheap. Clones share the SDK's client, what they have seen of the holders' leases, and their
/// waiters.
///
/// See the [crate's page](crate) for what it promises, and for the table that it needs.
#[derive(Clone)]
pub struct DynamoDbLock {
    pub(crate) client: Arc<Client>,
    queue: Arc<RecordQueue<DynamoDbQueue>>,
}

/// A request to a region takes milliseconds, and to another continent tens of them.
const TTL_MIN: Duration = Duration::from_secs(1);
/// A record that is first seen when its lease is nearly over has to be watched for a whole lease.
const EXPIRY_LAG_PERCENT: u16 = 100;

impl DynamoDbLock {
    /// Locks in the table `distributed_lock` of the client's region and account, with
    /// [`LockConfig::default`]. No I/O.
    ///
    /// The client's connections, credentials and endpoint are used; its time limits and retries are
    /// not: [`LockConfig::call_timeout`] bounds a call, and glock repeats what may be repeated.
    #[expect(clippy::needless_pass_by_value, reason = "as every store's lock takes its client")]
    pub fn new(client: SdkClient) -> Self {
        let config = LockConfig::default();
        let table = Table::unchecked(&config);
        Self::from_client(Client::new(&client, config, table, POLL_MAX))
    }

    fn from_client(client: Client) -> Self {
        let client = Arc::new(client);
        let (waiters, pending) = (client.notified.waiters.clone(), &client.pending);
        let queue = RecordQueue::new(DynamoDbQueue(Arc::clone(&client)), waiters, pending);
        Self { client, queue }
    }

    /// Sets the configuration. This store reads `namespace`, `call_timeout`, `holder`, `table`,
    /// `lock_field` and `ttl_field`.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a setting that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        let (table, poll_max) = (Table::new(&config)?, self.client.poll_max);
        Ok(self.rebuild(config, table, poll_max))
    }

    /// Sets the longest pause between two reads of a waiter, by default 1 s: how late it may notice a
    /// release, and what it costs. It is between 4 ms and 1 s: other clients pass over a waiter that does not
    /// take a free lock for 2 s.
    #[must_use]
    pub fn with_poll_max(self, poll_max: Duration) -> Self {
        let (config, table) = (self.client.config.clone(), self.client.commands.table.clone());
        self.rebuild(config, table, poll_max.clamp(POLL_MIN, POLL_MAX))
    }

    /// Creates the table, with on-demand capacity, unless it exists; waits until it can be used, for up
    /// to a minute, and checks its key. Any number of processes may do so at once. If the table exists,
    /// `dynamodb:DescribeTable` is the only permission that is needed.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`], [`Rejected`](glock_core::Fault::Rejected) if the table may not be
    /// created, or if one of that name has another key.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: once polled, it is carried out in the background.
    pub async fn create_table(&self) -> Result<(), LockError> {
        let client = Arc::clone(&self.client);
        let call = Call::new(&client.pending, backend::DYNAMODB, Action::Prepare, CREATION_MAX);
        let work = async move { create_table(client.commands.sdk(), &client.commands.table).await };
        call.run(work).await
    }

    /// The table that [`create_table`](Self::create_table) creates, as JSON for
    /// `aws dynamodb create-table --cli-input-json`.
    pub fn table_definition(&self) -> String {
        self.client.commands.table.definition()
    }

    fn rebuild(&self, config: LockConfig, table: Table, poll_max: Duration) -> Self {
        let sdk = self.client.commands.sdk();
        Self::from_client(Client::new(sdk, config, table, poll_max))
    }
}

#[async_trait]
impl Lock for DynamoDbLock {
    fn backend(&self) -> &'static str {
        backend::DYNAMODB
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(TTL_MIN);
        capabilities.clock = Clock::Observer;
        capabilities.expiry_lag_percent = EXPIRY_LAG_PERCENT;
        capabilities.fairness = Fairness::Store;
        // A new item's tokens begin at the clock, so that losing the item alone does not set them back.
        capabilities.fencing = Fencing::LostWritesAndClock;
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
        let end = LeaseEnd { fence: lease.fence(), deadline: lease.deadline() };
        let work = async move { client.release(&id, &owner, Some(end)).await };
        self.client.call(Action::Release).run(work).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        wait::wait(&self.client, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let (client, key) = (Arc::clone(&self.client), self.client.key(id));
        let work = async move { client.holder(&key).await };
        self.client.call(Action::Inspect).run(work).await
    }
}

#[async_trait]
impl LockHooks for DynamoDbLock {
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
}

impl fmt::Debug for DynamoDbLock {
    /// Shows nothing of the SDK's client: its settings hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamoDbLock")
            .field("table", &self.client.commands.table.name)
            .field("namespace", &self.client.config.namespace)
            .finish_non_exhaustive()
    }
}
