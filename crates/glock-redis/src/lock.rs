//! `RedisLock`: a lock is a hash at one key, and four scripts work on it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Capabilities, Fencing, Holder, Lease, Lock, LockConfig, LockError, LockId, OwnerToken,
    Waiting, backend,
    toolkit::{Call, FnAttempt, LockHooks, WaitQueue, Wakeups},
};
use redis::{Client, aio::ConnectionLike};
use tokio::time;

use crate::{
    calls::{AcquireAttempt, Calls},
    schema::Schema,
    session::SharedConnection,
    source::Source,
    wait,
};

/// Locks on a Redis or Valkey server. Cloning is cheap: clones share connections and waiters.
///
/// See the [crate's front page](crate) for what it promises and what it leaves behind.
#[derive(Clone)]
pub struct RedisLock {
    inner: Arc<Inner>,
}

struct Inner {
    config: LockConfig,
    calls: Arc<Calls>,
    /// Where wake-ups come from: the same session, another one, or nowhere.
    subscriber: Option<Arc<SharedConnection>>,
    wakeups: Wakeups,
    queue: WaitQueue,
}

/// The shortest TTL: five times the least margin that a lease's deadline keeps.
const TTL_MIN: Duration = Duration::from_millis(10);
/// The server counts in whole milliseconds and frees a key after the last one.
const EXPIRY_LAG: Duration = Duration::from_millis(1);

impl RedisLock {
    /// Locks on the server that `client` names, over one connection of our own. No I/O: it is made
    /// on first use, and again when it is lost.
    ///
    /// Address, TLS, credentials and database are the client's. Protocol (RESP3), `TCP_NODELAY` and
    /// time limits are ours, and keep-alive and user time-out where the client sets none.
    pub fn new(client: Client) -> Self {
        Self::build(LockConfig::default(), Source::Client(Arc::new(client)), None)
    }

    /// Locks over a connection that the application manages: a `MultiplexedConnection`, a
    /// `ConnectionManager`, a `ClusterConnection`.
    ///
    /// Waiters ask the server from time to time, unless [`with_subscriber`](Self::with_subscriber)
    /// is called. Set the connection's `TCP_NODELAY` and its response time-out (the driver's
    /// default is 500 ms) yourself; one that cannot reconnect ends with its first failure.
    pub fn from_connection<C>(connection: C) -> Self
    where
        C: ConnectionLike + Clone + Send + Sync + 'static,
    {
        Self::build(LockConfig::default(), Source::Caller(Arc::new(connection)), None)
    }

    /// Locks on a cluster, over connections of our own.
    ///
    /// Waiters ask the cluster from time to time, unless
    /// [`with_subscriber`](Self::with_subscriber) is given a client of any of its nodes.
    #[cfg(feature = "cluster")]
    pub fn cluster(client: redis::cluster::ClusterClient) -> Self {
        Self::build(LockConfig::default(), Source::Cluster(Arc::new(client)), None)
    }

    /// Locks on the primary that sentinels name, over one connection of our own. The sentinels are
    /// asked again whenever it is lost.
    #[cfg(feature = "sentinel")]
    pub fn sentinel(client: redis::sentinel::SentinelClient) -> Self {
        let source = Source::Sentinel(Arc::new(tokio::sync::Mutex::new(client)));
        Self::build(LockConfig::default(), source, None)
    }

    /// Uses other settings. Clones made before keep theirs.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if [`LockConfig::check`] finds one that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        let subscriber = match &self.inner.subscriber {
            Some(subscriber) if !Arc::ptr_eq(subscriber, &self.inner.calls.session) => {
                Some(subscriber.source().clone())
            }
            _ => None,
        };
        Ok(Self::build(config, self.inner.calls.session.source().clone(), subscriber))
    }

    /// Has waiters woken by messages, over a connection of our own to the server that `client`
    /// names. For locks whose connection cannot subscribe by itself.
    #[must_use]
    pub fn with_subscriber(self, client: Client) -> Self {
        let source = self.inner.calls.session.source().clone();
        Self::build(self.inner.config.clone(), source, Some(Source::Client(Arc::new(client))))
    }

    fn build(config: LockConfig, source: Source, subscriber: Option<Source>) -> Self {
        let wakeups = Wakeups::new();
        let limit = config.call_timeout;
        let hears = source.can_listen();
        let session = SharedConnection::new(source, limit, wakeups.clone());
        let subscriber = match subscriber {
            Some(subscriber) => Some(SharedConnection::new(subscriber, limit, wakeups.clone())),
            None => hears.then(|| Arc::clone(&session)),
        };
        let calls = Arc::new(Calls {
            schema: Schema::new(&config.namespace),
            session,
            holder: config.holder.clone(),
            wakes: subscriber.is_none().then(|| wakeups.clone()),
        });
        let queue = WaitQueue::new();
        Self { inner: Arc::new(Inner { config, calls, subscriber, wakeups, queue }) }
    }

    fn call(&self, action: Action) -> Call {
        Call::new(backend::REDIS, action, self.inner.config.call_timeout)
    }

    fn waiting(&self) -> Waiting {
        if self.inner.subscriber.is_some() { Waiting::Pushed } else { Waiting::Polled }
    }

    /// Who has the lock, as a call of its own.
    async fn look(&self, action: Action, key: &Arc<str>) -> Result<Option<Holder>, LockError> {
        let (calls, key) = (Arc::clone(&self.inner.calls), Arc::clone(key));
        self.call(action).run(async move { calls.look(action, &key).await }).await
    }

    /// Sleeps until a message or the holder's expiry.
    async fn sleep(&self, subscriber: &Arc<SharedConnection>, key: Arc<str>) -> Result<(), LockError> {
        // Asleep before the subscription and the look, so that nothing in between is missed.
        let mut sleeper = self.inner.wakeups.subscribe(&key);
        let (calls, subscriber) = (Arc::clone(&self.inner.calls), Arc::clone(subscriber));
        let looked = self.call(Action::Wait).run(async move {
            subscriber.listen(&key).await?;
            calls.look(Action::Wait, &key).await
        });
        if let Some(holder) = looked.await? {
            let _ = time::timeout(wait::until_expiry(&holder), sleeper.woken()).await;
        }
        Ok(())
    }

    /// Looks from time to time until the lock is free, has changed hands meanwhile, or was released
    /// by this client.
    async fn poll(&self, key: Arc<str>) -> Result<(), LockError> {
        let mut sleeper = self.inner.wakeups.subscribe(&key);
        let mut first = None;
        while let Some(holder) = self.look(Action::Wait, &key).await? {
            if *first.get_or_insert(holder.fence) != holder.fence {
                break;
            }
            if time::timeout(wait::until_next_look(&holder), sleeper.woken()).await.is_ok() {
                break;
            }
        }
        Ok(())
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
        capabilities.waiting = self.waiting();
        capabilities.fencing = Fencing::LostWritesAndClock;
        capabilities
    }

    async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let attempt = |_| {
            let (calls, owner) = (Arc::clone(&self.inner.calls), OwnerToken::random()?);
            let attempt = Arc::new(AcquireAttempt { calls, id: id.clone(), owner, ttl });
            let undo = {
                let attempt = Arc::clone(&attempt);
                move || {
                    let attempt = Arc::clone(&attempt);
                    async move { attempt.undo().await }
                }
            };
            Ok(FnAttempt::new(async move { attempt.make().await }, undo))
        };
        self.call(Action::Acquire).acquire_retrying(ttl, attempt).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let (calls, id) = (Arc::clone(&self.inner.calls), lease.id().clone());
        let owner = lease.owner().clone();
        let sent_at =
            self.call(Action::Renew).run(async move { calls.renew(&id, &owner, ttl).await });
        Ok(lease.renewed(sent_at.await?, ttl))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let (calls, id) = (Arc::clone(&self.inner.calls), lease.id().clone());
        let (owner, deadline) = (lease.owner().clone(), lease.deadline());
        self.call(Action::Release)
            .run(async move { calls.release(&id, &owner, Some(deadline)).await })
            .await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        let key = self.inner.calls.schema.key(id).into();
        let slept = async {
            match &self.inner.subscriber {
                Some(subscriber) => self.sleep(subscriber, key).await,
                None => self.poll(key).await,
            }
        };
        time::timeout(max, slept).await.unwrap_or(Ok(()))
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        self.look(Action::Inspect, &self.inner.calls.schema.key(id).into()).await
    }
}

#[async_trait]
impl LockHooks for RedisLock {
    fn queue(&self) -> Option<&WaitQueue> {
        Some(&self.inner.queue)
    }
}

impl fmt::Debug for RedisLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLock")
            .field("namespace", &self.inner.config.namespace)
            .field("waiting", &self.waiting())
            .finish_non_exhaustive()
    }
}
