//! `Client`: what the clones of a lock share.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use glock_core::{
    Action, LockConfig, LockError, LockId, backend,
    toolkit::{
        BackgroundTask, Call, CallDeadline, ObservedReservations, PendingWork, RESERVED_FOR,
    },
};

use crate::{
    client::ConsulClient,
    queue::{turns::Turns, waiters::QueuedWaiters},
    schema::{Entry, Keys},
    session::Sessions,
    watch::Watch,
};

/// What the clones of a lock share.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) consul: ConsulClient,
    pub(crate) config: LockConfig,
    /// The servers' `session_ttl_min`.
    pub(crate) ttl_min: Duration,
    pub(crate) keys: Keys,
    pub(crate) sessions: Sessions,
    pub(crate) watch: Watch,
    /// This client's waiters in the queues.
    pub(crate) waiters: Arc<QueuedWaiters>,
    pub(crate) turns: Turns,
    /// How often a waiter joined a queue.
    pub(crate) joins: AtomicU64,
    /// Ends grants that no waiter takes.
    pub(crate) untaken: BackgroundTask,
    /// Each by the Raft index since which the lock is reserved.
    pub(crate) reservations: ObservedReservations<u64>,
    pub(crate) pending: PendingWork,
}

impl Client {
    pub(crate) fn new(consul: ConsulClient, config: LockConfig, ttl_min: Duration) -> Self {
        let attempt_max = CallDeadline::after(config.call_timeout).attempt_max();
        let consul = consul.with_reply_max(attempt_max);
        let (pending, keys) = (PendingWork::new(), Keys::new(&config));
        let waiters = Arc::new(QueuedWaiters::new());
        let (registry, turns) =
            (&waiters.registry, keys.turns(&waiters.registry.client().to_string()));
        Self {
            sessions: Sessions::new(consul.clone(), &config, ttl_min, &pending, (registry, &turns)),
            watch: Watch::new(consul.clone(), ttl_min, Arc::clone(&waiters)),
            turns: Turns::new(consul.clone(), turns, Arc::clone(&waiters)),
            reservations: ObservedReservations::new(RESERVED_FOR),
            joins: AtomicU64::new(0),
            untaken: BackgroundTask::new(),
            waiters,
            keys,
            pending,
            consul,
            config,
            ttl_min,
        }
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        self.call_within(action, self.config.call_timeout)
    }

    pub(crate) fn call_within(&self, action: Action, limit: Duration) -> Call {
        Call::new(&self.pending, backend::CONSUL, action, limit)
    }

    /// Reads who has the lock.
    pub(crate) async fn read(
        &self,
        action: Action,
        id: &LockId,
    ) -> Result<Option<Entry>, LockError> {
        let (consul, key) = (self.consul.clone(), self.keys.key(id));
        let read = async move { consul.entry(&key).await.map_err(|err| err.during(action)) };
        self.call(action).run(read).await
    }
}
