//! `ZooKeeperLock`: a lock is two ephemeral nodes, created and deleted together.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Clock, Fairness, Holder, Lease, Lock, LockConfig, LockError, LockId,
    Retry, Waiting, backend,
    toolkit::{BoxFuture, LockHooks, PendingWork},
};
use zookeeper_client::{Acl, Connector};

use crate::{
    acquire::AcquireAttempt,
    client::{Client, LeaseRef},
    session::{NodeOptions, Sessions},
    wait,
};

/// Locks on a ZooKeeper ensemble. Cloning is cheap: clones share one session.
///
/// See the [crate's front page](crate) for what it promises and what it leaves behind.
#[derive(Clone)]
pub struct ZooKeeperLock {
    pub(crate) client: Arc<Client>,
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
    /// Credentials and TLS are the connector's. Its session time-out is replaced by ours
    /// ([`with_session_timeout`](Self::with_session_timeout)), and its connection time-out by the
    /// driver's own part of that, because it sets the interval of the driver's pings. Do not use
    /// `with_session` or `with_detached`: a session must neither be resumed nor outlive its client.
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

    /// Requests another session time-out than 10 s: how long the locks of a client stay after it has
    /// died. The servers grant 2 to 20 of their ticks, whatever is requested.
    ///
    /// A holder that cannot reach a quorum for half of it counts its locks as lost.
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

    /// Creates nodes with these permissions.
    ///
    /// Unless this is called, nodes are for the identity of the session that created them (`auth`),
    /// and for everyone only if the session has none.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if there are none, as no client could use such a lock.
    pub fn with_acls(self, acls: impl Into<Vec<Acl>>) -> Result<Self, LockError> {
        let acls = acls.into();
        if acls.is_empty() {
            return Err(LockError::invalid("acls", "there are none; give at least one"));
        }
        Ok(self.with(|settings| settings.acls = Some(acls)))
    }

    /// Creates queues as persistent nodes, for servers without container nodes. Not needed where such
    /// servers say so: the client then finds out by itself.
    #[must_use]
    pub fn with_persistent_queues(self) -> Self {
        self.with(|settings| settings.persistent_queues = true)
    }

    /// Opens the next session by another connector, for this lock and its clones: with credentials that
    /// have changed, for example. The session that is open goes on. It does so with the old credentials,
    /// also when the driver connects again; where the servers refuse them, the session is over, and the
    /// next call opens one by the new connector.
    ///
    /// Nodes are for the identity of the session that created them, so a lock that is shared by clients
    /// of the old and the new identity needs [`with_acls`](Self::with_acls).
    pub fn set_connector(&self, connector: Connector) {
        self.client.sessions.set_connector(connector);
    }

    fn with(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.settings;
        change(&mut settings);
        Self::build(self.client.sessions.connector(), settings)
    }

    fn build(connector: Connector, settings: Settings) -> Self {
        let Settings { config, cluster, session_timeout, acls, persistent_queues } = &settings;
        let (cluster, limit) = (Arc::clone(cluster), config.call_timeout);
        let options = NodeOptions::new(acls.clone(), config.holder.clone(), *persistent_queues);
        let pending = PendingWork::new();
        let sessions =
            Sessions::new(connector, cluster, *session_timeout, limit, options, pending.clone());
        Self { client: Arc::new(Client::new(sessions, config, pending)), settings }
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
        // leader may have learned of its last request half a tick late. A tick is at most half of the
        // time-out.
        capabilities.expiry_lag = self.client.sessions.timeout() * 7 / 4;
        capabilities.clock = Clock::Session;
        capabilities.ends_with_client = true;
        capabilities.waiting = Waiting::Pushed;
        capabilities.fairness = Fairness::Store;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let attempt = AcquireAttempt::new(&self.client, id, ttl);
        self.client.call(Action::Acquire).acquire(ttl, attempt).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let (client, lease) = (Arc::clone(&self.client), LeaseRef::of(lease));
        self.client.call(Action::Renew).run(async move { client.renew(lease, ttl).await }).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let (client, lease) = (Arc::clone(&self.client), LeaseRef::of(lease));
        self.client.call(Action::Release).run(async move { client.release(lease).await }).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        wait::until_free(&self.client, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let (client, id) = (Arc::clone(&self.client), id.clone());
        self.client.call(Action::Inspect).run(async move { client.inspect(&id).await }).await
    }
}

#[async_trait]
impl LockHooks for ZooKeeperLock {
    fn pending_work(&self) -> &PendingWork {
        &self.client.pending
    }

    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        Some(Box::pin(wait::in_queue(&self.client, id, ttl, retry)))
    }

    fn ended<'a>(&'a self, lease: &'a Lease) -> Option<BoxFuture<'a, ()>> {
        // None with another client's session: the next renewal finds out.
        Some(Box::pin(lease.session()?.expired()))
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
