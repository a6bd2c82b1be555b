//! `Run`: one run of a [`BackgroundTask`](super::BackgroundTask), round by round.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle, time};

use super::mutex::Mutex;

/// Work that a [`BackgroundTask`](super::BackgroundTask) does in rounds.
pub trait Worker: Send + Sync + 'static {
    /// Does what is due. Returns how long to rest before the next round, or `None` if no work is left:
    /// the task then ends, unless it was started again meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way only with its runtime, or by [`restart`](super::BackgroundTask::restart). The next start
    /// then begins a new round, so what a round takes out of its worker must not be lost with it.
    fn round(&self) -> impl Future<Output = Option<Duration>> + Send;

    /// A round was dropped half-way, with its runtime or by a panic, and the task was not started again. Wakes those
    /// who rely on it, for example, so that they start the task on their own runtime.
    fn interrupted(&self) {}
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Ends a rest early.
    pub(super) wake: Notify,
}

#[derive(Default)]
pub(super) struct State {
    /// How often the task was started.
    pub(super) starts: u64,
    /// How many tasks were spawned for it.
    pub(super) runs: u64,
    pub(super) task: Option<AbortHandle>,
}

/// One run of the task.
pub(super) struct Run {
    pub(super) shared: Arc<Shared>,
    /// As [`State::runs`] counts.
    pub(super) number: u64,
}

impl Shared {
    fn starts(&self) -> u64 {
        self.state.lock().starts
    }

    /// Whether the task may end: it was not started again since there were `seen` starts.
    fn may_end(&self, seen: u64) -> bool {
        self.ends_if(|state| state.starts == seen)
    }

    /// Whether the run with this number was the last one, and ends it.
    fn is_over(&self, number: u64) -> bool {
        self.ends_if(|state| state.runs == number)
    }

    /// Forgets the task if that holds, so that the next start spawns another one.
    fn ends_if(&self, holds: impl FnOnce(&State) -> bool) -> bool {
        let mut state = self.state.lock();
        let ends = holds(&state);
        if ends {
            state.task = None;
        }
        ends
    }

    async fn rest(&self, pause: Duration) {
        let _ = time::timeout(pause, self.wake.notified()).await;
    }
}

impl Run {
    pub(super) async fn weakly<W: Worker>(self, worker: Weak<W>) {
        loop {
            let seen = self.shared.starts();
            let Some(strong) = worker.upgrade() else { return };
            let pause = self.round(&*strong).await;
            // Before the rest: the last reference may go meanwhile.
            drop(strong);
            match pause {
                Some(pause) => self.shared.rest(pause).await,
                None if self.shared.may_end(seen) => return,
                None => {}
            }
        }
    }

    pub(super) async fn strongly<W: Worker>(self, worker: Arc<W>) {
        loop {
            let seen = self.shared.starts();
            match self.round(&*worker).await {
                Some(pause) => self.shared.rest(pause).await,
                None if self.shared.may_end(seen) => return,
                None => {}
            }
        }
    }

    async fn round<W: Worker>(&self, worker: &W) -> Option<Duration> {
        let mut unfinished = Unfinished { run: self, worker, is_over: false };
        let pause = worker.round().await;
        unfinished.is_over = true;
        pause
    }
}

/// A round that may be dropped half-way.
struct Unfinished<'a, W: Worker> {
    run: &'a Run,
    worker: &'a W,
    is_over: bool,
}

impl<W: Worker> Drop for Unfinished<'_, W> {
    fn drop(&mut self) {
        // The task may have been started again before its last run is dropped.
        if !self.is_over && self.run.shared.is_over(self.run.number) {
            self.worker.interrupted();
        }
    }
}
