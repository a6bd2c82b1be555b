//! `Client`: what a lock and its clones share.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use glock_core::{
    Action, LockConfig, LockError, LockId, OwnerToken, backend,
    toolkit::{Call, CallDeadline, Notified, PendingWork, WaiterId},
};
use tokio::time::Instant;

use crate::{
    client::{
        audience::Audience, change_stream::ChangeStreamSource, command::Sender, driver::Driver,
    },
    commands::{Commands, Waiters},
    schema::Schema,
    watch::{Watch, Watching},
};

/// What a lock and its clones share: settings, commands and waiters, never lock state.
pub(crate) struct Client {
    pub(crate) config: LockConfig,
    pub(crate) schema: Schema,
    pub(crate) settings: Settings,
    pub(crate) commands: Commands,
    pub(crate) notified: Notified,
    /// The stream of the waiters' turns.
    pub(crate) turns: Watch,
    /// The stream of releases for the sleepers.
    pub(crate) releases: Watch,
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
        let notified = Notified::default();
        let name = notified.waiters.client();
        let standalone = Arc::new(AtomicBool::new(false));
        let watch = |source, audience| {
            let may_stream = (settings.watching, Arc::clone(&standalone));
            Watch::new(source, audience, config.call_timeout, may_stream)
        };
        let source = ChangeStreamSource::of_turns(&driver, &schema, name);
        let turns = watch(source, Audience::Waiters(notified.waiters.clone()));
        let source = ChangeStreamSource::of_releases(&driver, &schema);
        let releases = watch(source, Audience::Sleepers(notified.sleepers.clone()));
        let sender = Sender::new(&driver, &schema.database, settings.in_flight_max, standalone);
        Arc::new(Self {
            commands: Commands::new(sender, &schema, name),
            pending: PendingWork::new(),
            config,
            schema,
            settings,
            notified,
            turns,
            releases,
            driver,
        })
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
        self.call_within(action, self.config.call_timeout)
    }

    /// The same with another time limit.
    pub(crate) fn call_within(&self, action: Action, limit: Duration) -> Result<Call, LockError> {
        let runtime = self.driver.runtime().map_err(|failure| failure.during(action))?;
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
        let reply = self.commands.release(&key, owner, self.waiters_for(id), until).await?;
        let freed_before = reply.repeated && deadline.is_some_and(|at| reply.sent_at < at);
        if !reply.was_held && !freed_before {
            return Err(LockError::NotHeld { id: id.clone() });
        }
        // They do not wait for the streams.
        self.notified.freed(&key, reply.turn);
        Ok(())
    }

    /// Takes the waiter out of the queue, and passes on what is reserved for it.
    pub(crate) async fn leave(
        &self,
        id: &LockId,
        waiter: WaiterId,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let turn = self.commands.leave(&self.schema.key(id), waiter, until).await?;
        self.notified.waiters.turn(turn);
        Ok(())
    }

    /// Whether this client has a waiter for the lock.
    pub(crate) fn waiters_for(&self, id: &LockId) -> Waiters {
        if self.notified.waiters.has_waiters(id) { Waiters::Here } else { Waiters::Elsewhere }
    }
}
