//! `Abandoned`: server processes that may still run a statement whose caller has given up.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Fault,
    toolkit::{BackgroundTask, Backoff, Mutex, Worker},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    client::connector::{Connector, ProcessState, ServerProcess},
    error::Failure,
};

/// The pauses while the server cannot be reached.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
const NOT_ENDED: &str = "a statement without a reply could not be ended yet";

/// The place of a connection among those that a client may have.
pub(crate) struct Permit {
    pub(crate) _connection: OwnedSemaphorePermit,
    /// Of a call that is not for a lock that is held.
    pub(crate) _ordinary: Option<OwnedSemaphorePermit>,
}

/// Server processes that may still run a statement whose caller has given up: it may wait for a lock or
/// for a standby. Each is ended, and keeps the permit of its connection until then, so that they cannot
/// pile up.
pub(crate) struct Abandoned {
    processes: Arc<Processes>,
    task: BackgroundTask,
}

struct Processes {
    connector: Arc<Connector>,
    state: Mutex<State>,
}

struct State {
    entries: Vec<Entry>,
    pauses: Backoff,
}

struct Entry {
    process: ServerProcess,
    _permit: Option<Permit>,
    /// Undos that wait for its end.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Abandoned {
    pub(crate) fn new(connector: Arc<Connector>) -> Self {
        let pauses = Backoff::new(PAUSE, PAUSE_MAX);
        let state = Mutex::new(State { entries: Vec::new(), pauses });
        let processes = Arc::new(Processes { connector, state });
        Self { processes, task: BackgroundTask::new() }
    }

    /// Ends a process whose connection was given up, in the background.
    pub(crate) fn add(&self, process: ServerProcess, permit: Option<Permit>) {
        {
            let mut state = self.processes.state.lock();
            state.pauses.reset();
            state.entries.push(Entry { process, _permit: permit, waiting: Vec::new() });
        }
        self.start();
    }

    /// Ends a process, so that nothing that it was sent takes effect any more.
    pub(crate) async fn end(&self, process: ServerProcess) -> Result<(), Failure> {
        let (sender, ended) = oneshot::channel();
        {
            let mut state = self.processes.state.lock();
            let known = state.entries.iter().position(|entry| entry.process == process);
            let at = known.unwrap_or_else(|| {
                state.pauses.reset();
                state.entries.push(Entry { process, _permit: None, waiting: Vec::new() });
                state.entries.len() - 1
            });
            state.entries[at].waiting.push(sender);
        }
        self.start();
        ended.await.map_err(|_| Failure::new(Fault::Unknown, NOT_ENDED))
    }

    /// Ends a process that runs no statement.
    pub(crate) async fn end_idle(&self, process: ServerProcess) -> Result<ProcessState, Failure> {
        self.processes.connector.end_idle(process).await
    }

    fn start(&self) {
        self.task.start_until_done(&self.processes);
        self.task.wake();
    }
}

impl Worker for Processes {
    async fn round(&self) -> Option<Duration> {
        let processes: Vec<_> = {
            let state = self.state.lock();
            // Those that an undo waits for come first.
            let (awaited, others): (Vec<_>, Vec<_>) =
                state.entries.iter().partition(|entry| !entry.waiting.is_empty());
            awaited.into_iter().chain(others).map(|entry| entry.process).collect()
        };
        if processes.is_empty() {
            return None;
        }
        let done = |process, ended: Result<(), Failure>| {
            // What the server refuses would be refused again: the permit must not be lost with it.
            let entries: Vec<_> = {
                let mut state = self.state.lock();
                state.entries.extract_if(.., |entry| entry.process == process).collect()
            };
            for waiting in entries.into_iter().flat_map(|entry| entry.waiting) {
                // An undo whose time has passed comes again.
                let _ = ended.is_ok().then(|| waiting.send(()));
            }
        };
        let asked = self.connector.end(&processes, done).await;
        let mut state = self.state.lock();
        let again = state.entries.iter().any(|entry| processes.contains(&entry.process));
        if asked.is_err() || again {
            return Some(state.pauses.next_pause());
        }
        if !state.entries.is_empty() {
            return Some(Duration::ZERO);
        }
        state.pauses.reset();
        None
    }
}
