//! `EtcdLock`: the `Lock` of this crate.

use std::{sync::Arc, time::Duration};

use etcd_client::{Client, ConnectOptions};
use glock_core::{
    Action, Capabilities, Fairness, Fault, Holder, Lease, Lock, LockConfig, LockError, LockId,
    Retry, Waiting, async_trait, backend,
    toolkit::{BoxFuture, Call, LockHooks},
};

use crate::{
    acquire::acquire,
    client::rpc::{Store, holder},
    client::source::Source,
    commands, renew,
    schema::{Owner, is_of, value},
    wait,
};

/// A lock on etcd. Clones share its connection, its spare leases and its place to wait.
#[derive(Debug, Clone)]
pub struct EtcdLock {
    store: Arc<Store>,
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
    /// that locks need, and all of them are off by default.
    pub fn new(client: Client) -> Self {
        Self::with_source(Source::Given(client))
    }

    /// Locks through a client that is made when it is first needed, and logs in then if `options`
    /// name a user. No I/O. Begin with [`connect_options`](crate::connect_options). The client
    /// belongs to the runtime that it is made on, and its connection ends with that.
    pub fn connect(
        endpoints: impl IntoIterator<Item = impl Into<String>>,
        options: ConnectOptions,
    ) -> Self {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Self::with_source(Source::endpoints(endpoints, options))
    }

    fn with_source(source: Source) -> Self {
        Self { store: Store::new(Arc::new(source), LockConfig::default()) }
    }

    /// Takes other settings. `namespace`, `call_timeout` and `holder` are read.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] for settings that cannot work.
    pub fn with_config(self, config: LockConfig) -> Result<Self, LockError> {
        config.check()?;
        Ok(Self { store: Store::new(Arc::clone(&self.store.source), config) })
    }

    fn call(&self, action: Action) -> Call {
        Call::new(backend::ETCD, action, self.store.limit())
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
        acquire(&self.store, id, ttl).await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease, LockError> {
        let ttl = self.capabilities().ttl(ttl)?;
        let renew = renew::Renew::new(&self.store, lease, ttl)?;
        self.call(Action::Renew).run(renew.run()).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), LockError> {
        let not_held = LockError::NotHeld { id: lease.id().clone() };
        let Some(owner) = Owner::of(lease.owner()) else { return Err(not_held) };
        let store = Arc::clone(&self.store);
        let (key, id) = (store.range(lease.id()).key(&owner.seat), lease.id().clone());
        let (ttl, since) = (lease.ttl(), lease.sent_at());
        let release = async move {
            let mut says = value(&owner.secret, &store.config.holder).into_bytes();
            loop {
                // Made anew for each attempt: there is hardly ever a second one.
                let ask = |client: &Client| {
                    let (mut client, txn) = (client.kv_client(), commands::let_go(&key, &says));
                    async move { client.txn(txn).await }
                };
                let (answer, asked) = store.ask(Action::Release, ask).await;
                let answer = answer?;
                let kv = commands::kvs(&answer, 0).into_iter().next();
                match kv {
                    Some(kv) if answer.succeeded() => {
                        store.neighbours.left(&key);
                        renew::left(&store, kv.lease(), owner.lease, ttl, since);
                        store.seats.give_back(&id, owner.seat);
                        return Ok(());
                    }
                    // Taken by a client that calls itself something else.
                    Some(kv) if is_of(kv.value(), &owner.secret) => says = kv.value().to_vec(),
                    // An earlier attempt may have done it, or the lease was over before.
                    _ if asked > 1 => return Err(in_doubt()),
                    _ => return Err(not_held),
                }
            }
        };
        self.call(Action::Release).run(release).await
    }

    async fn wait(&self, id: &LockId, max: Duration) -> Result<(), LockError> {
        self.store.enter(Action::Wait)?;
        wait::wait(&self.store, id, max).await
    }

    async fn inspect(&self, id: &LockId) -> Result<Option<Holder>, LockError> {
        let (store, range) = (Arc::clone(&self.store), self.store.range(id));
        let inspect = async move {
            let action = Action::Inspect;
            let txn = etcd_client::Txn::new().and_then([commands::get_first(&range)]);
            let (answer, _) = store.txn(action, &txn).await;
            let Some(first) = commands::kvs(&answer?, 0).into_iter().next() else {
                return Ok(None);
            };
            let lease = first.lease();
            let (left, _) = store
                .ask(action, |client| {
                    let mut client = client.lease_client();
                    async move { client.time_to_live(lease, None).await }
                })
                .await;
            // Below zero: it has run out since.
            let left = u64::try_from(left?.ttl()).ok().map(Duration::from_secs);
            Ok(left.map(|left| holder(&first).with_remaining(Some(left))))
        };
        self.call(Action::Inspect).run(inspect).await
    }
}

#[async_trait]
impl LockHooks for EtcdLock {
    fn acquire_queued<'a>(
        &'a self,
        id: &'a LockId,
        ttl: Duration,
        retry: &'a Retry,
    ) -> Option<BoxFuture<'a, Result<Lease, LockError>>> {
        Some(Box::pin(async move {
            let ttl = self.capabilities().ttl(ttl)?;
            self.store.enter(Action::Acquire)?;
            wait::Waiter::new(&self.store, id, ttl, retry).acquire().await
        }))
    }

    async fn ended(&self, lease: &Lease) {
        wait::ended(&self.store, lease).await;
    }
}

fn in_doubt() -> LockError {
    let why = "the connection broke, and the key was gone when its release was asked for again";
    LockError::backend(backend::ETCD, Action::Release, Fault::Unknown, why)
}
