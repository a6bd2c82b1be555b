//! `Idle`: the connections that nobody uses just now, and the task that closes those that are too many.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use http_body_util::Full;
use hyper::{body::Bytes, client::conn::http1};
use tokio::{
    runtime::Handle,
    task::JoinHandle,
    time::{self, Instant},
};

pub(crate) type Sender = http1::SendRequest<Full<Bytes>>;

/// The connections that nobody uses just now.
#[derive(Default)]
pub(crate) struct Idle {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The one that was used last is the last, so that those that are too many are the first.
    senders: Vec<(Sender, Instant)>,
    trimmer: Option<JoinHandle<()>>,
}

/// A burst of calls opens many connections; those that are not needed after it are closed.
const IDLE_MAX: Duration = Duration::from_secs(2);
const ROUND: Duration = Duration::from_secs(1);

impl Idle {
    /// The connection that was used last.
    pub(crate) fn take(&self) -> Option<Sender> {
        state(&self.state).senders.pop().map(|(sender, _)| sender)
    }

    /// Sees to it that it is closed if there are others, and it is not used soon.
    pub(crate) fn put_back(&self, sender: Sender) {
        let mut state = state(&self.state);
        state.senders.push((sender, Instant::now()));
        let trims = state.trimmer.as_ref().is_some_and(|trimmer| !trimmer.is_finished());
        if state.senders.len() < 2 || trims {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            state.trimmer = Some(runtime.spawn(trim(Arc::downgrade(&self.state))));
        }
    }

    /// Closes all of them.
    pub(crate) fn clear(&self) {
        state(&self.state).senders.clear();
    }
}

impl State {
    /// Closes those that were not used lately, but for one.
    fn trim(&mut self) {
        let old = self.senders.iter().take_while(|(_, since)| since.elapsed() > IDLE_MAX).count();
        let surplus = old.min(self.senders.len().saturating_sub(1));
        self.senders.drain(..surplus);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some(trimmer) = &self.trimmer {
            trimmer.abort();
        }
    }
}

/// Runs until one connection is left, or none.
async fn trim(idle: Weak<Mutex<State>>) {
    loop {
        time::sleep(ROUND).await;
        let Some(idle) = idle.upgrade() else { return };
        let mut state = state(&idle);
        state.trim();
        if state.senders.len() < 2 {
            state.trimmer = None;
            return;
        }
    }
}

fn state(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // No code that could panic runs under this lock, so what it holds is whole.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
