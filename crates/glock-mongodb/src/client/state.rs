//! `Client`: what a lock and its clones share.

use std::sync::{Arc, atomic::AtomicBool};

use glock_core::{
    Action, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, CallDeadline, PendingWork, WaitQueue},
};
use tokio::time::Instant;

use crate::{
    client::{command::Sender, driver::Driver},
    commands::Commands,
    schema::Schema,
    watch::{Watch, Watching},
};

/// What a lock and its clones share: settings, commands and waiters, never lock state.
pub(crate) struct Client {
    pub(crate) config: LockConfig,
    pub(crate) schema: Schema,
    pub(crate) settings: Settings,
    pub(crate) commands: Commands,
    pub(crate) watch: Watch,
    pub(crate) queue: WaitQueue,
    pub(crate) pending: PendingWork,
    pub(crate) driver: Arc<Driver>,
}

/// What this store alone has to set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) watching: Watching,
    /// How many commands may be in flight.
    pub(crate) in_flight_max: usize,
}

/// The driver's pool has ten connections by default. Two more commands wait in it, so that none of them
/// is idle while another command waits here.
const IN_FLIGHT_MAX: usize = 12;

impl Default for Settings {
    fn default() -> Self {
        Self { watching: Watching::Stream, in_flight_max: IN_FLIGHT_MAX }
    }
}

impl Client {
    /// No I/O.
    pub(crate) fn new(
        driver: Arc<Driver>,
        config: LockConfig,
        schema: Schema,
        settings: Settings,
    ) -> Arc<Self> {
        let (call_timeout, standalone) = (config.call_timeout, Arc::new(AtomicBool::new(false)));
        let watch =
            Watch::new(&driver, &schema, call_timeout, settings.watching, Arc::clone(&standalone));
        let sender = Sender::new(&driver, &schema.database, settings.in_flight_max, standalone);
        let commands = Commands::new(sender, &schema);
        let (queue, pending) = (WaitQueue::new(), PendingWork::new());
        Arc::new(Self { config, schema, settings, commands, watch, queue, pending, driver })
    }

    /// Another client, over the same connections.
    pub(crate) fn rebuild(
        &self,
        config: LockConfig,
        schema: Schema,
        settings: Settings,
    ) -> Arc<Self> {
        Self::new(Arc::clone(&self.driver), config, schema, settings)
    }

    /// A call that runs on the driver's thread.
    pub(crate) fn call(&self, action: Action) -> Result<Call, LockError> {
        let runtime = self.driver.runtime().map_err(|failure| failure.during(action))?;
        let limit = self.config.call_timeout;
        Ok(Call::new(&self.pending, backend::MONGODB, action, limit).on(&runtime))
    }

    /// Frees the lock if `owner` has it. If the reply to an earlier copy was lost, a lock that a later
    /// one finds not held was freed by the first, unless its lease was over at `deadline` by then.
    pub(crate) async fn release(
        &self,
        id: &LockId,
        owner: &OwnerToken,
        deadline: Option<Instant>,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let key = self.schema.key(id);
        let reply = self.commands.release(&key, owner, until).await?;
        let freed_before = reply.repeated && deadline.is_some_and(|at| reply.sent_at < at);
        if !reply.was_held && !freed_before {
            return Err(LockError::NotHeld { id: id.clone() });
        }
        // The stream is for other clients; this one's waiters do not wait for it.
        self.watch.wakeups().wake(&key);
        Ok(())
    }
}
