//! `Client`: what a lock and its clones share.

use std::time::Duration;

use glock_core::{
    Action, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, CallDeadline, Notified, PendingWork},
};
use sqlx::sqlite::SqliteConnectOptions;

use crate::{
    client::{connections::Connections, database::Database},
    commands::Commands,
    watch::Watch,
};

/// What a lock and its clones share.
pub(crate) struct Client {
    pub(crate) config: LockConfig,
    pub(crate) commands: Commands,
    pub(crate) watch: Watch,
    pub(crate) notified: Notified,
    pub(crate) pending: PendingWork,
}

impl Client {
    /// The client of the file that `options` name.
    pub(crate) fn new(
        options: &SqliteConnectOptions,
        config: LockConfig,
    ) -> Result<Self, LockError> {
        let database = Database::new(options)?;
        Ok(Self::on(Connections::new(database), config))
    }

    /// A client on the connections of another one.
    pub(crate) fn on(connections: Connections, config: LockConfig) -> Self {
        let notified = Notified::default();
        let commands = Commands::new(connections, notified.waiters.client());
        Self {
            watch: Watch::new(commands.clone(), config.call_timeout, notified.clone()),
            commands,
            notified,
            pending: PendingWork::new(),
            config,
        }
    }

    pub(crate) fn connections(&self) -> &Connections {
        self.commands.connections()
    }

    /// A lock's key. A namespace has no slash, so no two locks share a key.
    pub(crate) fn key(&self, id: &LockId) -> String {
        format!("{}/{id}", self.config.namespace)
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        self.call_within(action, self.config.call_timeout)
    }

    pub(crate) fn call_within(&self, action: Action, limit: Duration) -> Call {
        Call::new(&self.pending, backend::SQLITE, action, limit)
    }

    /// Frees the lock if `owner` has it.
    pub(crate) async fn release(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let key = self.key(id);
        let released = self.commands.release(&key, owner, until).await;
        let released = released.map_err(|failure| failure.during(Action::Release))?;
        // They do not wait for the file to be watched.
        self.notified.freed(&key, released.turn);
        if released.was_live { Ok(()) } else { Err(LockError::NotHeld { id: id.clone() }) }
    }
}
