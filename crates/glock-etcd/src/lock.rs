//! `EtcdLock`: the `Lock` of this crate.

use std::{sync::Arc, time::Duration};

use etcd_client::ConnectOptions;
use glock_core::{
    Action, Capabilities, Fairness, Holder, Lease, Lock, LockConfig, LockError, LockId, Retry,
    Waiting, async_trait, backend,
    toolkit::{BoxFuture, LockHooks, PendingWork, acquire_queued},
};

use crate::{
    acquire::acquire,
    client::{Client, members::Members},
    renew::Renew,
    schema::Owner,
    wait,
};

/// A lock on etcd. Clones share its connections, its spare leases and its waiters' session.
#[derive(Debug, Clone)]
pub struct EtcdLock {
    pub(crate) client: Arc<Client>,
}

/// What etcd's defaults grant at least: one and a half election time-outs, in whole seconds.
const TTL_MIN: Duration = Duration::from_secs(2);
const TTL_STEP: Duration = Duration::from_secs(1);
/// etcd looks for leases that have run out twice a second, and commits their end.
const EXPIRY_LAG: Duration = Duration::from_secs(1);

impl EtcdLock {
    /// Locks through a client of the application. No I/O.
    ///
    /// Its settings are the application's: [`connect_options`](crate::connect_options) are those
    /// that locks need, and all of them are off by default. It hides its members and sends each request
    /// to one that it takes by chance, so a call may meet a silent member several times, and fail. A
    /// lock made by [`from_endpoints`](Self::from_endpoints) avoids silent members.
    ///
    /// The client's connections belong to the runtime of its first request, and a lock cannot replace
    /// them: it works for as long as that runtime runs.
    pub fn new(client: etcd_client::Client) -> Self {
        Self::with_members(Members::given(client))
    }

    /// Locks on the cluster that has these members. No I/O: the connection to a member is made when it
    /// is first needed, and logs in then if `options` name a user. Begin with
    /// [`connect_options`](crate::connect_options).
    ///
    /// The clones of a lock may be used on several runtimes: a connection is replaced, on the runtime of
    /// the caller, once it is silent.
    pub fn from_endpoints(
        endpoints: impl IntoIterator<Item = impl Into<String>>,
        options: ConnectOptions,
    ) -> Self {
        Self::from_endpoints_with(endpoints, move || options.clone())
    }

    /// Does what [`from_endpoints`](Self::from_endpoints) does, with options that change: `options` is
    /// called for each connection. A connection is replaced when its user or password is refused, so
    /// a password may be rotated while locks are held. `options` must not block.
    ///
    /// ```
    /// use glock_etcd::{EtcdLock, connect_options};
    ///
    /// let password = || std::fs::read_to_string("/run/secrets/etcd").unwrap_or_default();
    /// let options = move || connect_options().with_user("locker", password().trim());
    /// let lock = EtcdLock::from_endpoints_with(["127.0.0.1:2379"], options);
    /// ```
    pub fn from_endpoints_with(
        endpoints: impl IntoIterator<Item = impl Into<String>>,
        options: impl Fn() -> ConnectOptions + Send + Sync + 'static,
    ) -> Self {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Self::with_members(Members::of(endpoints, options))
    }

    fn with_members(members: Members) -> Self {
        Self { client: Client::new(Arc::new(members), LockConfig::default()) }
    }

    /// Takes other settings. `namespace`, `call_timeout` and `holder` are read.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for settings that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        Ok(Self { client: Client::new(Arc::clone(&self.client.rpc.members), config) })
    }
}

#[async_trait]
impl Lock for EtcdLock {
    fn backend(&self) -> &'static str {
        backend::ETCD
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::new(TTL_MIN);
        capabilities.ttl_step = TTL_STEP;
        capabilities.expiry_lag = EXPIRY_LAG;
        capabilities.waiting = Waiting::Pushed;
        capabilities.fairness = Fairness::Store;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        acquire(&self.client, id, ttl).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let renew = Renew::new(&self.client, lease, ttl)?;
        self.client.call(Action::Renew).run(renew.run()).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let id = lease.id().clone();
        let Some(owner) = Owner::of(lease.owner()) else { return Err(LockError::NotHeld { id }) };
        let times = (lease.ttl(), lease.sent_at());
        let release = Arc::clone(&self.client).release((id, owner), times);
        self.client.call(Action::Release).run(release).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        wait::wait(&self.client, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let inspect = Arc::clone(&self.client).inspect(Action::Inspect, id.clone());
        self.client.call(Action::Inspect).run(inspect).await
    }
}

#[async_trait]
impl LockHooks for EtcdLock {
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
            self.client.rpc.enter(Action::Acquire)?;
            let queue = wait::Queue::new(&self.client, id, ttl, retry);
            acquire_queued(&queue, &self.client.arrivals, id, retry).await
        }))
    }

    fn ended<'a>(&'a self, lease: &'a Lease) -> Option<BoxFuture<'a, ()>> {
        Some(Box::pin(wait::ended(&self.client, lease)))
    }
}
