//! `Client`: what a lock and its clones share.

use glock_core::{
    Action, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, PendingWork, WaitQueue},
};
use sqlx::PgPool;

use crate::{
    client::connections::Connections,
    commands::Commands,
    schema::Schema,
    watch::{Listener, ListenerSource},
};

/// What a lock and its clones share.
pub(crate) struct Client {
    pub(crate) config: LockConfig,
    pub(crate) schema: Schema,
    pub(crate) connections: Connections,
    pub(crate) commands: Commands,
    pub(crate) listener: Listener,
    pub(crate) queue: WaitQueue,
    pub(crate) pending: PendingWork,
}

impl Client {
    pub(crate) fn new(
        pool: PgPool,
        config: LockConfig,
        schema: Schema,
        source: ListenerSource,
    ) -> Self {
        let connections = Connections::new(pool, config.call_timeout);
        Self {
            commands: Commands::new(connections.clone(), &schema),
            listener: Listener::new(connections.clone(), &schema, source),
            queue: WaitQueue::new(),
            pending: PendingWork::new(),
            config,
            schema,
            connections,
        }
    }

    /// A lock's key. A namespace has no slash, so no two locks share a key.
    pub(crate) fn key(&self, id: &LockId) -> String {
        format!("{}/{id}", self.config.namespace)
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        Call::new(&self.pending, backend::POSTGRES, action, self.config.call_timeout)
    }

    /// Frees the lock if `owner` has it. `has_expired` says whether its lease can have run out by now.
    pub(crate) async fn release(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        has_expired: impl Fn() -> bool + Send,
    ) -> Result<(), LockError> {
        let key = self.key(id);
        let was_live = self.commands.release(&key, owner, has_expired).await;
        let was_live = was_live.map_err(|failure| failure.during(Action::Release))?;
        // The notification is for other clients; this one's waiters do not wait for it.
        self.listener.wakeups().wake(&key);
        if was_live { Ok(()) } else { Err(LockError::NotHeld { id: id.clone() }) }
    }
}
