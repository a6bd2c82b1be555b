//! `EtcdLock`: the `Lock` of this crate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use etcd_client::{Client, ConnectOptions, TxnResponse};
use glock_core::{
    Action, Call, Capabilities, Fault, Holder, Lease, Lock, LockConfig, LockError, LockId, Order,
    Retry, Waiting, acquire_in_turn, async_trait, backend,
};
use tokio::time::{Instant, timeout};

use crate::{
    error::{is_lease_gone, is_worth_repeating, silent},
    leases::Leases,
    renew,
    schema::{Owner, lease_id, secret},
    source::Source,
    store::{Store, fence, holder, revision},
    txns, wait,
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

/// No attempt begins after so many quarters of the call's time limit.
const ATTEMPTS_QUARTERS: u32 = 3;

impl EtcdLock {
    /// Locks through a client of the application. No I/O.
    ///
    /// Its settings are the application's: [`connect_options`](crate::connect_options) are those
    /// that locks need, and all of them are off by default.
    pub fn new(client: Client) -> Self {
        Self::with_source(Source::Given(client))
    }

    /// Locks through a client that is made when it is first needed, and logs in then if `options`
    /// name a user. No I/O. Begin with [`connect_options`](crate::connect_options).
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
        capabilities.order = Order::Store;
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
        let key = store.range(lease.id()).key(&owner.secret);
        let made = i64::try_from(lease.fence().get()).unwrap_or(i64::MAX);
        // The margin of the deadline only makes the lease look older than it is.
        let (ttl, since) = (lease.ttl(), lease.deadline().checked_sub(lease.ttl()));
        let release = async move {
            // Made anew for each attempt: there is hardly ever a second one.
            let ask = |client: &Client| {
                let (mut client, txn) = (client.kv_client(), txns::let_go(&key, made));
                async move { client.txn(txn).await }
            };
            let (answer, asked) = store.ask(Action::Release, ask).await;
            let answer = answer?;
            if let (true, Some(kv)) = (answer.succeeded(), txns::kvs(&answer, 0).first()) {
                store.neighbours.left(&key);
                renew::left(&store, kv.lease(), owner.lease, ttl, since);
                return Ok(());
            }
            // An earlier attempt may have done it, or the lease was over before.
            if asked > 1 { Err(in_doubt()) } else { Err(not_held) }
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
            let txn = etcd_client::Txn::new().and_then([txns::get_first(&range)]);
            let (answer, _) = store.txn(action, &txn).await;
            let Some(first) = txns::kvs(&answer?, 0).into_iter().next() else { return Ok(None) };
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

    async fn acquire_within(
        &self,
        id: &LockId,
        ttl: Duration,
        retry: &Retry,
    ) -> Result<Lease, LockError> {
        if retry.retries_max.is_some() {
            // Who counts tries does not queue.
            return acquire_in_turn(self, id, ttl, retry).await;
        }
        retry.check()?;
        let ttl = self.capabilities().ttl(ttl)?;
        self.store.enter(Action::Acquire)?;
        wait::Waiter::new(&self.store, id, ttl, retry).acquire().await
    }

    async fn ended(&self, lease: &Lease) {
        wait::ended(&self.store, lease).await;
    }
}

fn in_doubt() -> LockError {
    let why = "the connection broke, and the key was gone when its release was asked for again";
    LockError::backend(backend::ETCD, Action::Release, Fault::Unknown, why)
}

/// Tries once to take the lock for `ttl`, which is one that etcd counts in.
pub(crate) async fn acquire(
    store: &Arc<Store>,
    id: &LockId,
    ttl: Duration,
) -> Result<Lease, LockError> {
    // The lease whose requests may have taken the lock: revoking it undoes them all.
    let in_use = Arc::new(AtomicI64::new(0));
    let work = {
        let (store, id, in_use) = (Arc::clone(store), id.clone(), Arc::clone(&in_use));
        async move { Try { store, id, ttl, in_use }.run().await }
    };
    let undo = {
        let (store, id) = (Arc::clone(store), id.clone());
        move || {
            let (store, id) = (Arc::clone(&store), id.clone());
            let lease = in_use.load(Ordering::Acquire);
            async move { undo(&store, id, lease).await }
        }
    };
    Call::new(backend::ETCD, Action::Acquire, store.limit()).grant(ttl, work, undo).await
}

/// Takes back whatever was done on the lease.
async fn undo(store: &Store, id: LockId, lease: i64) -> Result<(), LockError> {
    // Without a lease, nothing was asked for.
    if lease == 0 || store.revoke(Action::Acquire, lease).await? {
        return Ok(());
    }
    // Its grant may be on its way: it has to be looked for again.
    Err(LockError::NotHeld { id })
}

/// One try, which may take several requests where connections break.
struct Try {
    store: Arc<Store>,
    id: LockId,
    ttl: Duration,
    in_use: Arc<AtomicI64>,
}

impl Try {
    async fn run(self) -> Result<Lease, LockError> {
        let since = Instant::now();
        loop {
            let result = self.once().await;
            let Err(err) = &result else { return result };
            let late = since.elapsed() > self.store.limit() / 4 * ATTEMPTS_QUARTERS;
            if is_lease_gone(err) && !late {
                // A spare one that had run out, or was revoked by an operator.
                continue;
            }
            if late || !is_worth_repeating(err) {
                return result;
            }
            // It may have happened, or happen yet. Without its lease it has not, and never will.
            let lease = self.in_use.load(Ordering::Acquire);
            match self.store.revoke(Action::Acquire, lease).await {
                Ok(true) => {}
                // Or its grant is on its way.
                Ok(false) => self.store.leases.end_unheard(lease),
                Err(_) => return result,
            }
        }
    }

    async fn once(&self) -> Result<Lease, LockError> {
        let (store, action) = (&*self.store, Action::Acquire);
        let mut spare = if let Some(spare) = store.leases.take(self.ttl) {
            spare
        } else {
            let id = lease_id()?;
            self.in_use.store(id, Ordering::Release);
            Leases::grant(store, action, id, self.ttl).await?
        };
        self.in_use.store(spare.id, Ordering::Release);
        let owner = Owner { lease: spare.id, secret: secret()? };
        let range = store.range(&self.id);
        let key = range.key(&owner.secret);
        let txn = txns::take(&range, &key, &store.config.holder, spare.id);
        // The driver's futures are large.
        let request = Box::pin(store.ask_once(action, |client| {
            let mut client = client.kv_client();
            async move { client.txn(txn).await }
        }));
        // A member that is silent is given up for another, if there is one. Else the call's own
        // limit is what ends it.
        let request = async {
            if store.source.has_others() {
                timeout(store.attempt(), request).await.unwrap_or_else(|_| Err(silent(action)))
            } else {
                request.await
            }
        };
        let succeeded = |answer: &Result<TxnResponse, LockError>| {
            answer.as_ref().is_ok_and(TxnResponse::succeeded)
        };
        let answer = Leases::freshened(store, action, &mut spare, request, succeeded).await;
        let answer = match answer {
            Err(err) if err.fault() == Some(Fault::Rejected) && !is_lease_gone(&err) => {
                store.leases.give_back(spare);
                return Err(err);
            }
            answer => answer?,
        };
        if answer.succeeded() {
            let fence = fence(revision(answer.header()));
            let (id, owner) = (self.id.clone(), owner.token()?);
            return Ok(Lease::granted(id, owner, fence, spare.since, spare.ttl));
        }
        store.leases.give_back(spare);
        let holder = txns::kvs(&answer, 0).first().map(|kv| Box::new(holder(kv)));
        Err(LockError::Held { id: self.id.clone(), holder })
    }
}
