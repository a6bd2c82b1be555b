//! `Client`: what all clones of one lock share.

pub(crate) mod connection;
pub(crate) mod logins;
pub(crate) mod members;
pub(crate) mod rpc;
pub(crate) mod suffix_pool;
pub(crate) mod watch_list;

use std::{fmt, sync::Arc, time::Duration};

use etcd_client::Txn;
use glock_core::{
    Action, Fault, Holder, LockConfig, LockError, LockId, backend,
    toolkit::{Call, LocalWaiters, PendingWork, WaitQueue, Wakeups},
};

use crate::{
    client::{members::Members, rpc::Rpc, suffix_pool::SuffixPool},
    commands::{self, ReleaseReply},
    queue::session::QueueSessions,
    schema::{Owner, Range, value},
    session::{lease::SpareLease, pool::LeasePool},
    watch::Watcher,
};

/// What all clones of one lock share. It holds no lock state: only what is ready for use, and who
/// waits.
pub(crate) struct Client {
    pub(crate) rpc: Arc<Rpc>,
    pub(crate) config: LockConfig,
    /// Leases that no lock uses at the moment.
    pub(crate) leases: Arc<LeasePool>,
    /// Key suffixes that no key has at the moment.
    pub(crate) suffixes: SuffixPool,
    /// The lease that this client's waiters share.
    pub(crate) sessions: Arc<QueueSessions>,
    pub(crate) watcher: Arc<Watcher>,
    /// Which keys in queues are this client's.
    pub(crate) local: LocalWaiters,
    /// For which locks this client has waiters in the queue.
    pub(crate) waiting: Wakeups,
    /// In which order this client's waiters join the queue: one at a time, as they came.
    pub(crate) arrivals: WaitQueue,
    pub(crate) pending: PendingWork,
}

impl Client {
    pub(crate) fn new(members: Arc<Members>, config: LockConfig) -> Arc<Self> {
        let rpc = Rpc::new(members, config.call_timeout);
        Arc::new(Self {
            leases: LeasePool::new(Arc::clone(&rpc)),
            suffixes: SuffixPool::default(),
            sessions: QueueSessions::new(Arc::clone(&rpc), &config.namespace),
            watcher: Watcher::new(Arc::clone(&rpc)),
            local: LocalWaiters::new(),
            waiting: Wakeups::new(),
            arrivals: WaitQueue::new(),
            pending: PendingWork::new(),
            rpc,
            config,
        })
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        Call::new(&self.pending, backend::ETCD, action, self.rpc.limit())
    }

    /// The keys of a lock.
    pub(crate) fn range(&self, id: &LockId) -> Range {
        Range::new(&self.config.namespace, id)
    }

    /// The value of a key of this client.
    pub(crate) fn value(&self, secret: &str) -> String {
        value(secret, &self.config.holder)
    }

    /// Deletes the key of a hold, and keeps its lease for the next one.
    pub(crate) async fn release(
        self: Arc<Self>,
        (id, owner): (LockId, Owner),
        (ttl, since): (Duration, Option<tokio::time::Instant>),
    ) -> Result<(), LockError> {
        let range = self.range(&id);
        let key = range.key(&owner.suffix);
        let mut value = self.value(&owner.secret).into_bytes();
        loop {
            let txn = commands::release(&key, &value);
            let (reply, sent) = self.rpc.txn(Action::Release, &txn).await;
            match ReleaseReply::of(&reply?, &owner.secret) {
                ReleaseReply::Released(lease) => {
                    self.local.left(&range.start, &key);
                    match since.filter(|_| lease == owner.lease) {
                        Some(since) => self.leases.put(SpareLease { id: lease, ttl, since }),
                        // Another renewal moved the key to this lease: its TTL is not known here.
                        None => self.leases.end(lease),
                    }
                    self.suffixes.give_back(&id, owner.suffix);
                    return Ok(());
                }
                ReleaseReply::OtherLabel(its) => value = its,
                // An earlier attempt may have deleted the key, or the lease may have ended before.
                ReleaseReply::NotHeld if sent > 1 => return Err(ambiguous_release()),
                ReleaseReply::NotHeld => return Err(LockError::NotHeld { id }),
            }
        }
    }

    /// The holder of a lock, with what is left of its lease.
    pub(crate) async fn inspect(
        self: Arc<Self>,
        action: Action,
        id: LockId,
    ) -> Result<Option<Holder>, LockError> {
        let txn = Txn::new().and_then([commands::get_first(&self.range(&id))]);
        let reply = self.rpc.txn(action, &txn).await.0?;
        let Some(first) = commands::kvs(&reply, 0).into_iter().next() else { return Ok(None) };
        let left = self.rpc.time_to_live(action, first.lease()).await?.ttl();
        // Below zero: it has run out since.
        let left = u64::try_from(left).ok().map(Duration::from_secs);
        Ok(left.map(|left| commands::holder(&first).with_remaining(Some(left))))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.watcher.close();
    }
}

fn ambiguous_release() -> LockError {
    let why = "the connection broke, and the key was gone when its release was sent again";
    LockError::backend(backend::ETCD, Action::Release, Fault::Unknown, why)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("rpc", &self.rpc)
            .field("config", &self.config)
            .field("leases", &self.leases)
            .finish_non_exhaustive()
    }
}
