//! `Listener`: the one connection on which a lock and its clones hear of releases.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use glock_core::{Action, Fault, LockError, backend, toolkit::Wakeups};
use sqlx::postgres::PgConnectOptions;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use crate::{
    listen::{Ears, listen},
    schema::Schema,
    session::Session,
    statements::Statements,
};

/// Where the listening connection comes from.
#[derive(Clone)]
pub(crate) enum Source {
    /// The settings of the pool's own connections.
    Pool,
    /// Settings of its own, such as a way past a pooler.
    Own(Box<PgConnectOptions>),
    /// There is none; waiters ask.
    Nowhere,
}

/// How well the listener hears.
#[derive(Debug, Clone)]
pub(crate) enum Hearing {
    /// It is being connected.
    Starting,
    /// A notification that was sent has arrived.
    Good,
    /// Listening works, and nothing is heard: something on the way keeps notifications.
    Deaf,
    /// It could not be connected; that is tried again.
    Failed(Fault, Arc<dyn Error + Send + Sync>),
}

/// Runs the listening task while somebody sleeps, and ends it with the last clone of the lock.
pub(crate) struct Listener {
    ears: Ears,
    source: Source,
}

/// A listening task. Dropping it ends the task.
pub(crate) struct Running {
    /// When somebody last went to sleep.
    pub(crate) used_at: Instant,
    hearing: watch::Receiver<Hearing>,
    _until_dropped: oneshot::Sender<()>,
}

/// Where the task that runs is kept. It takes itself out when it stops for want of sleepers.
#[derive(Clone, Default)]
pub(crate) struct Place(Arc<Mutex<Option<Running>>>);

impl Place {
    pub(crate) fn running(&self) -> MutexGuard<'_, Option<Running>> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    pub(crate) fn new(
        session: Session,
        schema: &Schema,
        statements: &Statements,
        source: Source,
    ) -> Self {
        let ears = Ears {
            session,
            channel: Arc::clone(&schema.channel),
            statements: statements.clone(),
            wakeups: Wakeups::new(),
            place: Place::default(),
        };
        Self { ears, source }
    }

    pub(crate) fn wakeups(&self) -> &Wakeups {
        &self.ears.wakeups
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// How well is heard, and a way to see that change; starts to listen if need be. `None`: there
    /// is nothing to listen on.
    ///
    /// Subscribe to the wake-ups first: a task that stops for want of sleepers looks for them under
    /// the lock that is taken here.
    pub(crate) fn hearing(&self) -> Option<watch::Receiver<Hearing>> {
        let options = match &self.source {
            Source::Pool => self.ears.session.pool().connect_options().as_ref().clone(),
            Source::Own(options) => options.as_ref().clone(),
            Source::Nowhere => return None,
        };
        let mut running = self.ears.place.running();
        if let Some(running) = &mut *running
            // A runtime that was shut down has taken its task along.
            && running.hearing.has_changed().is_ok()
        {
            running.used_at = Instant::now();
            return Some(running.hearing.clone());
        }
        let (told, hearing) = watch::channel(Hearing::Starting);
        let (until_dropped, stop) = oneshot::channel();
        tokio::spawn(listen(self.ears.clone(), options, told, stop));
        *running = Some(Running {
            used_at: Instant::now(),
            hearing: hearing.clone(),
            _until_dropped: until_dropped,
        });
        Some(hearing)
    }

    /// Whether waiters are told of a release, as far as is known.
    pub(crate) fn is_heard(&self) -> bool {
        let deaf = || match &*self.ears.place.running() {
            Some(running) => matches!(*running.hearing.borrow(), Hearing::Deaf),
            None => false,
        };
        !matches!(self.source, Source::Nowhere) && !deaf()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The task has a hold on its place, and so would live on.
        *self.ears.place.running() = None;
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hearing = match (&self.source, &*self.ears.place.running()) {
            (Source::Nowhere, _) => "none",
            (_, None) => "idle",
            (_, Some(running)) => match *running.hearing.borrow() {
                Hearing::Starting => "starting",
                Hearing::Good => "good",
                Hearing::Deaf => "deaf",
                Hearing::Failed(..) => "failed",
            },
        };
        f.write_str(hearing)
    }
}

/// What a waiter is told of a listener that could not be connected.
pub(crate) fn failed(fault: Fault, source: Arc<dyn Error + Send + Sync>) -> LockError {
    LockError::backend(backend::POSTGRES, Action::Wait, fault, NotListening(source))
}

#[derive(Debug)]
struct NotListening(Arc<dyn Error + Send + Sync>);

impl fmt::Display for NotListening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection that listens for releases could not be made")
    }
}

impl Error for NotListening {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
