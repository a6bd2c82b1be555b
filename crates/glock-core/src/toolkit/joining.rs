//! `Joining`: a waiter's request to take a lock or to join its queue.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use super::{mutex::Mutex, waiter_registry::WaiterRegistry, waiters::WaiterId};
use crate::{Lease, LockError};

/// A waiter's request to take a lock or to join its queue, as the attempts of
/// [`QueueStore::enter`](super::QueueStore::enter) share it.
#[derive(Clone)]
pub struct Joining {
    waiter: WaiterId,
    registry: WaiterRegistry,
    waiting: Arc<Mutex<Option<Entered>>>,
    joins: Arc<AtomicBool>,
}

/// What came of a request to take the lock or to join the queue.
#[derive(Debug)]
pub(super) enum Entered {
    /// The waiter has the lock, and no place in the queue.
    Granted(Lease),
    /// The waiter is in the queue: see [`Joining::note`].
    Waiting { free_in: Option<Duration> },
}

impl Joining {
    pub(super) fn new(waiter: WaiterId, registry: WaiterRegistry) -> Self {
        Self { waiter, registry, waiting: Arc::default(), joins: Arc::default() }
    }

    /// The waiter.
    pub fn waiter(&self) -> WaiterId {
        self.waiter
    }

    /// Notes that a request is sent that may put the waiter into the queue, and that others may follow: if one of
    /// those fails, the waiter may have a place all the same. Not needed where it is the only request.
    pub fn joins(&self) {
        self.joins.store(true, SeqCst);
    }

    /// Whether the waiter may be in the queue although a request has failed without any effect.
    pub(super) fn may_have_joined(&self) -> bool {
        self.joins.load(SeqCst)
    }

    /// Notes that the lock was refused, and that the waiter is in the queue. `free_in` says of the first
    /// one how long the lock is held, or reserved for another waiter, unless that changes; `None` of all
    /// others, who are notified. `turn` is the waiter of this client that the lock is reserved for, which
    /// then sends its claim.
    pub fn note(&self, free_in: Option<Duration>, turn: Option<u64>) {
        *self.waiting.lock() = Some(Entered::Waiting { free_in });
        self.registry.turn(turn);
    }

    /// What came of the attempts, of which `tried` is the result.
    pub(super) fn entered(&self, tried: Result<Lease, LockError>) -> Result<Entered, LockError> {
        match (tried, self.waiting.lock().take()) {
            (Ok(lease), _) => Ok(Entered::Granted(lease)),
            (Err(LockError::Held { .. }), Some(waiting)) => Ok(waiting),
            (Err(err), _) => Err(err),
        }
    }
}

impl fmt::Debug for Joining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joining").field("waiter", &self.waiter).finish_non_exhaustive()
    }
}
