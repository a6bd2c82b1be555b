//! `Client`: what a lock and its clones share.

use std::time::Duration;

use glock_core::{
    Action, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, CallDeadline, Notified, PendingWork},
};
use sqlx::PgPool;

use crate::{
    client::{connections::Connections, limits::Limits, listener_status::ListenerSource},
    commands::{Commands, queue_sql::CLIENT_CHANNEL},
    schema::Schema,
    watch::Listener,
};

/// What a lock and its clones share.
pub(crate) struct Client {
    pub(crate) config: LockConfig,
    pub(crate) schema: Schema,
    pub(crate) connections: Connections,
    pub(crate) commands: Commands,
    pub(crate) listener: Listener,
    pub(crate) notified: Notified,
    pub(crate) pending: PendingWork,
}

impl Client {
    pub(crate) fn new(
        pool: PgPool,
        config: LockConfig,
        schema: Schema,
        source: ListenerSource,
        connections_max: u32,
    ) -> Self {
        let connections = Connections::new(pool, Limits::new(config.call_timeout), connections_max);
        let notified = Notified::new(CLIENT_CHANNEL);
        let name = notified.waiters.client();
        Self {
            commands: Commands::new(connections.clone(), schema.clone(), name),
            listener: Listener::new(connections.clone(), &schema, source, notified.clone()),
            notified,
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
        self.call_within(action, self.config.call_timeout)
    }

    pub(crate) fn call_within(&self, action: Action, limit: Duration) -> Call {
        Call::new(&self.pending, backend::POSTGRES, action, limit)
    }

    /// Frees the lock if `owner` has it. `has_expired` says whether its lease can have run out by now.
    pub(crate) async fn release(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        until: CallDeadline,
        has_expired: impl Fn() -> bool + Send,
    ) -> Result<(), LockError> {
        let key = self.key(id);
        let released = self.commands.release(&key, owner, until, has_expired).await;
        let released = released.map_err(|failure| failure.during(Action::Release))?;
        // The notification is for other clients.
        self.notified.freed(&key, released.turn);
        if released.was_live { Ok(()) } else { Err(LockError::NotHeld { id: id.clone() }) }
    }
}
