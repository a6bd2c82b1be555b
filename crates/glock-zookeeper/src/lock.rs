//! `ZooKeeperLock`: a lock is two ephemeral nodes, made and deleted together.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Clock, Fairness, Holder, Lease, Lock, LockConfig, LockError, LockId,
    Retry, Waiting, backend,
    toolkit::{BoxFuture, Call, FnAttempt, LockHooks, WaitQueue},
};
use zookeeper_client::{Acl, Connector};

use crate::{
    client::{Client, LeaseRef, Owners},
    session::node_options::NodeOptions,
    session::opener::Sessions,
    wait,
};

/// Locks on a ZooKeeper ensemble. Cloning is cheap: clones share one session.
///
/// See the [crate's front page](crate) for what it promises and what it leaves behind.
#[derive(Clone)]
pub struct ZooKeeperLock {
    client: Arc<Client>,
    settings: Settings,
}

#[derive(Clone)]
struct Settings {
    config: LockConfig,
    cluster: Arc<str>,
    session_timeout: Duration,
    acls: Option<Vec<Acl>>,
    persistent_queues: bool,
}

/// The shortest TTL: five times the least margin that a lease's deadline keeps.
const TTL_MIN: Duration = Duration::from_millis(10);
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
const SESSION_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// The protocol's: milliseconds in 31 bits. No server grants nearly as much.
const SESSION_TIMEOUT_MAX: Duration = Duration::from_hours(24);

impl ZooKeeperLock {
    /// Locks on the servers of `cluster`, such as `zk1:2181,zk2:2181,zk3:2181` or, below a node
    /// that exists, `zk1:2181/app`. No I/O: a session is opened on first use, and another whenever
    /// one is over.
    ///
    /// Credentials and TLS are the connector's. Its session time-out is ours
    /// ([`with_session_timeout`](Self::with_session_timeout)), and its connection's time-out the
    /// driver's own part of that, as the proof of life counts on its pings. A session to take up again, or
    /// one that outlives its client (`with_session`, `with_detached`), does not go with locks.
    pub fn new(connector: Connector, cluster: impl Into<Arc<str>>) -> Self {
        let settings = Settings {
            config: LockConfig::default(),
            cluster: cluster.into(),
            session_timeout: SESSION_TIMEOUT,
            acls: None,
            persistent_queues: false,
        };
        Self::build(connector, settings)
    }

    /// Uses other settings. Clones made before keep theirs, and their session.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if [`LockConfig::check`] finds one that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        Ok(self.with(|settings| settings.config = config))
    }

    /// Asks the servers for another session time-out than 10 s: how long the locks of a client
    /// stay after it has died. They grant 2 to 20 of their ticks, whatever is asked for.
    ///
    /// A holder that cannot reach a quorum for half of it takes its locks for lost.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] unless it is between 100 ms and a day.
    pub fn with_session_timeout(self, timeout: Duration) -> Result<Self, LockError> {
        if !(SESSION_TIMEOUT_MIN..=SESSION_TIMEOUT_MAX).contains(&timeout) {
            let reason = "it must be between 100 ms and a day; the servers round it further";
            return Err(LockError::invalid("session time-out", reason));
        }
        Ok(self.with(|settings| settings.session_timeout = timeout))
    }

    /// Makes nodes with these permissions.
    ///
    /// Unless this is called, nodes are for the identity of the session that made them (`auth`),
    /// and for everybody only if the session has none.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if there are none, as nobody could use such a lock.
    pub fn with_acls(self, acls: impl Into<Vec<Acl>>) -> Result<Self, LockError> {
        let acls = acls.into();
        if acls.is_empty() {
            return Err(LockError::invalid("acls", "there are none; give at least one"));
        }
        Ok(self.with(|settings| settings.acls = Some(acls)))
    }

    /// Makes queues persistent nodes, for servers without container nodes. Found out by itself where
    /// the servers say so.
    #[must_use]
    pub fn with_persistent_queues(self) -> Self {
        self.with(|settings| settings.persistent_queues = true)
    }

    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings;
        change(&mut settings);
        Self::build(self.client.sessions.connector().clone(), settings)
    }

    fn build(connector: Connector, settings: Settings) -> Self {
        let Settings { config, cluster, session_timeout, acls, persistent_queues } = &settings;
        let node_options =
            NodeOptions::new(acls.clone(), config.holder.clone(), *persistent_queues);
        let (cluster, node_options) = (Arc::clone(cluster), Arc::new(node_options));
        let limit = config.call_timeout;
        let client = Client {
            sessions: Sessions::new(connector, cluster, *session_timeout, limit, node_options),
            namespace: config.namespace.clone(),
            limit,
            arrivals: WaitQueue::new(),
        };
        Self { client: Arc::new(client), settings }
    }

    fn call(&self, action: Action) -> Call {
        Call::new(backend::ZOOKEEPER, action, self.client.limit)
    }
}

#[async_trait]
impl Lock for ZooKeeperLock {
    fn backend(&self) -> &'static str {
        backend::ZOOKEEPER
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(TTL_MIN);
        // A dead client's session ends at the first tick of the leader after its time-out, and the
        // leader may have heard of it half a tick late. A tick is at most half of the time-out.
        capabilities.expiry_lag = self.client.sessions.timeout() * 7 / 4;
        capabilities.clock = Clock::Session;
        capabilities.waiting = Waiting::Pushed;
        capabilities.fairness = Fairness::Store;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let (client, id, owners) = (Arc::clone(&self.client), id.clone(), Owners::default());
        let undo = undo(&self.client, owners.clone());
        let work = async move { client.acquire(id, owners, ttl).await };
        self.call(Action::Acquire).acquire(ttl, FnAttempt::new(work, undo)).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let (client, lease) = (Arc::clone(&self.client), LeaseRef::of(lease));
        self.call(Action::Renew).run(async move { client.renew(lease, ttl).await }).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let (client, lease) = (Arc::clone(&self.client), LeaseRef::of(lease));
        self.call(Action::Release).run(async move { client.release(lease).await }).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        wait::until_free(&self.client, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let (client, id) = (Arc::clone(&self.client), id.clone());
        self.call(Action::Inspect).run(async move { client.inspect(&id).await }).await
    }
}

#[async_trait]
impl LockHooks for ZooKeeperLock {
    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        Some(Box::pin(async move {
            let ttl = self.capabilities().ttl(ttl)?;
            wait::Waiter::new(self, &self.client, id, ttl, retry).acquire().await
        }))
    }

    async fn ended(&self, lease: &Lease) {
        match lease.session() {
            Some(session) => session.expired().await,
            // Of another client: the next renewal finds out.
            None => std::future::pending().await,
        }
    }
}

/// Ends a hold that nobody learned of.
pub(crate) fn undo(
    client: &Arc<Client>,
    owners: Owners,
) -> impl Fn() -> std::future::Ready<Result<(), LockError>> + Clone + Send + 'static {
    let client = Arc::clone(client);
    move || {
        client.take_back(&owners);
        std::future::ready(Ok(()))
    }
}

impl fmt::Debug for ZooKeeperLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZooKeeperLock")
            .field("sessions", &self.client.sessions)
            .field("config", &self.settings.config)
            .finish_non_exhaustive()
    }
}
