//! `RedisLock`: a lock is a hash at one key, and four scripts work on it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use glock_core::{
    Action, Call, Capabilities, Fencing, Holder, Lease, Lock, LockConfig, LockError, LockId,
    OwnerToken, WaitQueue, Waiting, Wakeups, backend,
};
use redis::{Client, aio::ConnectionLike};
use tokio::time::{self, Instant};

use crate::{
    error,
    schema::{self, Acquired, Schema},
    session::{Answer, Request, Session},
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
    schema: Schema,
    session: Arc<Session>,
    /// Where wake-ups come from: the same session, another one, or nowhere.
    ears: Option<Arc<Session>>,
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
        Self::build(LockConfig::default(), Source::Client(client), None)
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
        Self::build(LockConfig::default(), Source::Given(Arc::new(connection)), None)
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
        let subscriber = match &self.inner.ears {
            Some(ears) if !Arc::ptr_eq(ears, &self.inner.session) => Some(ears.source().clone()),
            _ => None,
        };
        Ok(Self::build(config, self.inner.session.source().clone(), subscriber))
    }

    /// Has waiters woken by messages, over a connection of our own to the server that `client`
    /// names. For locks whose connection cannot subscribe by itself.
    #[must_use]
    pub fn with_subscriber(self, client: Client) -> Self {
        let source = self.inner.session.source().clone();
        Self::build(self.inner.config.clone(), source, Some(Source::Client(client)))
    }

    fn build(config: LockConfig, source: Source, subscriber: Option<Source>) -> Self {
        let wakeups = Wakeups::new();
        let limit = config.call_timeout;
        let hears = source.can_listen();
        let session = Session::new(source, limit, wakeups.clone());
        let ears = match subscriber {
            Some(subscriber) => Some(Session::new(subscriber, limit, wakeups.clone())),
            None => hears.then(|| Arc::clone(&session)),
        };
        let schema = Schema::new(&config.namespace);
        let queue = WaitQueue::new();
        Self { inner: Arc::new(Inner { config, schema, session, ears, wakeups, queue }) }
    }

    fn call(&self, action: Action) -> Call {
        Call::new(backend::REDIS, action, self.inner.config.call_timeout)
    }

    fn waiting(&self) -> Waiting {
        if self.inner.ears.is_some() { Waiting::Pushed } else { Waiting::Polled }
    }

    /// Who has the lock, as a call of its own.
    async fn look(&self, action: Action, key: &Arc<str>) -> Result<Option<Holder>, LockError> {
        let (inner, key) = (Arc::clone(&self.inner), Arc::clone(key));
        self.call(action).run(async move { inner.look(action, &key).await }).await
    }

    /// Sleeps until a message or the holder's expiry.
    async fn sleep(&self, ears: &Arc<Session>, key: Arc<str>) -> Result<(), LockError> {
        // Asleep before the subscription and the look, so that nothing in between is missed.
        let mut sleeper = self.inner.wakeups.subscribe(&key);
        let (inner, ears) = (Arc::clone(&self.inner), Arc::clone(ears));
        let looked = self.call(Action::Wait).run(async move {
            ears.listen(&key).await?;
            inner.look(Action::Wait, &key).await
        });
        if let Some(holder) = looked.await? {
            let _ = time::timeout(wait::until_expiry(&holder), sleeper.woken()).await;
        }
        Ok(())
    }

    /// Looks from time to time until the lock is free, or released by this client.
    async fn poll(&self, key: Arc<str>) -> Result<(), LockError> {
        let mut sleeper = self.inner.wakeups.subscribe(&key);
        while let Some(holder) = self.look(Action::Wait, &key).await? {
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
        let owner = OwnerToken::random()?;
        let inner = Arc::clone(&self.inner);
        let attempt = Arc::new(Attempt { inner, id: id.clone(), owner, ttl });
        let undo = {
            let attempt = Arc::clone(&attempt);
            move || {
                let attempt = Arc::clone(&attempt);
                async move { attempt.undo().await }
            }
        };
        self.call(Action::Acquire).grant(ttl, async move { attempt.make().await }, undo).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let (inner, id) = (Arc::clone(&self.inner), lease.id().clone());
        let owner = lease.owner().clone();
        let sent_at =
            self.call(Action::Renew).run(async move { inner.renew(&id, &owner, ttl).await });
        Ok(lease.renewed(sent_at.await?, ttl))
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let (inner, id) = (Arc::clone(&self.inner), lease.id().clone());
        let (owner, deadline) = (lease.owner().clone(), lease.deadline());
        self.call(Action::Release)
            .run(async move { inner.release(&id, &owner, Some(deadline)).await })
            .await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        let key = self.inner.schema.key(id).into();
        let slept = async {
            match &self.inner.ears {
                Some(ears) => self.sleep(ears, key).await,
                None => self.poll(key).await,
            }
        };
        time::timeout(max, slept).await.unwrap_or(Ok(()))
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        self.look(Action::Inspect, &self.inner.schema.key(id).into()).await
    }

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

/// One acquire, which may be sent and undone several times under the same owner token.
struct Attempt {
    inner: Arc<Inner>,
    id: LockId,
    owner: OwnerToken,
    ttl: Duration,
}

impl Attempt {
    async fn make(&self) -> Result<Lease, LockError> {
        let inner = &self.inner;
        let key = inner.schema.key(&self.id);
        let fence_key = Schema::fence_key(&key);
        let request = Request {
            script: &inner.schema.acquire,
            keys: &[&key, &fence_key],
            args: &[self.owner.reveal(), &millis(self.ttl), &inner.config.holder],
        };
        let answer = inner.session.ask(Action::Acquire, &request).await?;
        match schema::acquired(&answer.value).ok_or_else(|| error::garbled(Action::Acquire))? {
            Acquired::Granted(fence) => {
                let (id, owner) = (self.id.clone(), self.owner.clone());
                Ok(Lease::granted(id, owner, fence, answer.sent_at, self.ttl))
            }
            // The first request may still arrive, and find the lock free by then: undo it.
            Acquired::Held(_) if answer.repeated => Err(error::overtaken(Action::Acquire)),
            Acquired::Held(holder) => {
                Err(LockError::Held { id: self.id.clone(), holder: Some(Box::new(holder)) })
            }
        }
    }

    async fn undo(&self) -> Result<(), LockError> {
        self.inner.release(&self.id, &self.owner, None).await
    }
}

impl Inner {
    async fn renew(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        ttl: Duration,
    ) -> Result<Instant, LockError> {
        let request = Request {
            script: &self.schema.renew,
            keys: &[&self.schema.key(id)],
            args: &[owner.reveal(), &millis(ttl)],
        };
        let answer = self.session.ask(Action::Renew, &request).await?;
        match was_held(&answer, Action::Renew)? {
            true => Ok(answer.sent_at),
            false => Err(LockError::NotHeld { id: id.clone() }),
        }
    }

    /// Frees the lock. If the answer to the first request got lost, a lock that is not held by
    /// the second one was freed by the first, unless its lease was over by then.
    async fn release(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        deadline: Option<Instant>,
    ) -> Result<(), LockError> {
        let key = self.schema.key(id);
        let request =
            Request { script: &self.schema.release, keys: &[&key], args: &[owner.reveal()] };
        let answer = self.session.ask(Action::Release, &request).await?;
        let freed_before = answer.repeated && deadline.is_some_and(|at| answer.sent_at < at);
        if !was_held(&answer, Action::Release)? && !freed_before {
            return Err(LockError::NotHeld { id: id.clone() });
        }
        if self.ears.is_none() {
            self.wakeups.wake(&key);
        }
        Ok(())
    }

    async fn look(&self, action: Action, key: &str) -> Result<Option<Holder>, LockError> {
        let request = Request { script: &self.schema.inspect, keys: &[key], args: &[] };
        let answer = self.session.ask(action, &request).await?;
        schema::inspected(&answer.value).ok_or_else(|| error::garbled(action))
    }
}

fn was_held(answer: &Answer, action: Action) -> Result<bool, LockError> {
    schema::was_held(&answer.value).ok_or_else(|| error::garbled(action))
}

fn millis(ttl: Duration) -> String {
    ttl.as_millis().to_string()
}
