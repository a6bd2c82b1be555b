//! `Client`: what the clones of a lock share.

use std::time::Duration;

use glock_core::{
    Action, LockConfig, LockError, LockId, backend,
    toolkit::{Call, PendingWork, WaitQueue},
};

use crate::{
    client::ConsulClient,
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
    pub(crate) queue: WaitQueue,
    pub(crate) pending: PendingWork,
}

impl Client {
    pub(crate) fn new(consul: ConsulClient, config: LockConfig, ttl_min: Duration) -> Self {
        Self {
            keys: Keys::new(&config),
            sessions: Sessions::new(consul.clone(), &config),
            watch: Watch::new(consul.clone(), ttl_min),
            queue: WaitQueue::new(),
            pending: PendingWork::new(),
            consul,
            config,
            ttl_min,
        }
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        Call::new(&self.pending, backend::CONSUL, action, self.config.call_timeout)
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
