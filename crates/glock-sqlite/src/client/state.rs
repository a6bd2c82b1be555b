//! `Client`: what a lock and its clones share.

use glock_core::{
    Action, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, CallDeadline, PendingWork, WaitQueue},
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
    pub(crate) queue: WaitQueue,
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
        let commands = Commands::new(connections);
        Self {
            watch: Watch::new(commands.clone(), config.call_timeout),
            commands,
            queue: WaitQueue::new(),
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
        Call::new(&self.pending, backend::SQLITE, action, self.config.call_timeout)
    }

    /// Frees the lock if `owner` has it.
    pub(crate) async fn release(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let key = self.key(id);
        let was_live = self.commands.release(&key, owner, until).await;
        let was_live = was_live.map_err(|failure| failure.during(Action::Release))?;
        // This client's waiters do not wait for the file to be watched.
        self.watch.wakeups().wake(&key);
        if was_live { Ok(()) } else { Err(LockError::NotHeld { id: id.clone() }) }
    }
}
