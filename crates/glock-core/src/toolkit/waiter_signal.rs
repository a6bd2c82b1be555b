//! `Signal`: what one waiter in a queue of the store's is to do.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};

use super::mutex::Mutex;
use crate::{Action, BoxError, Fault, LockError};

/// What one waiter is to do.
#[derive(Default)]
pub(super) struct Signal {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Whether to send a claim now.
    claim: bool,
    /// When to send one if nothing happens before.
    free_at: Option<Instant>,
    failed: Option<Failed>,
}

/// A heartbeat that failed, as each waiter reports it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the heartbeat of this client's waiters failed: {text}")]
pub(super) struct Failed {
    backend: &'static str,
    action: Action,
    fault: Fault,
    text: Arc<str>,
}

/// What wakes a waiter.
pub(super) enum Woken {
    /// It may be its turn, or it has lost its place.
    Claim,
    /// The store failed.
    Failed(LockError),
}

impl Signal {
    /// Has the waiter return that a heartbeat failed.
    pub(super) fn fail(&self, failed: Failed) {
        self.state.lock().failed = Some(failed);
        self.changed.notify_one();
    }

    /// Has the waiter send a claim.
    pub(super) fn claim(&self) {
        self.state.lock().claim = true;
        self.changed.notify_one();
    }

    /// Has it send one after this time, if nothing happens before. `None`: it is notified.
    pub(super) fn free_in(&self, free_in: Option<Duration>) {
        self.state.lock().free_at = free_in.and_then(|left| Instant::now().checked_add(left));
        self.changed.notify_one();
    }

    /// Returns what there is to do, or until when there is nothing to do.
    pub(super) fn take(&self) -> Result<Woken, Option<Instant>> {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.claim) || state.free_at.is_some_and(|at| at <= Instant::now())
        {
            state.free_at = None;
            return Ok(Woken::Claim);
        }
        match state.failed.take() {
            Some(failed) => Ok(Woken::Failed(failed.into())),
            None => Err(state.free_at),
        }
    }

    /// Returns once there may be something to do.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Failed {
    /// `None` for what is no failure of the store.
    pub(super) fn of(err: &LockError) -> Option<Self> {
        let LockError::Backend { backend, action, fault, source } = err else { return None };
        let (backend, action, fault) = (*backend, *action, *fault);
        Some(Self { backend, action, fault, text: source.to_string().into() })
    }
}

impl From<Failed> for LockError {
    fn from(failed: Failed) -> Self {
        let Failed { backend, action, fault, .. } = failed;
        Self::Backend { backend, action, fault, source: BoxError::from(failed) }
    }
}
