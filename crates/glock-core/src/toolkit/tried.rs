//! `Tried`: an attempt to take a lock, and whether it was found to have taken it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::{attempt::Attempt, call_deadline::CallDeadline};
use crate::{Lease, LockError};

/// An attempt to take a lock, and whether an undo has found that it had taken it.
pub(crate) struct Tried<A> {
    attempt: A,
    undone: AtomicBool,
}

impl<A: Attempt> Tried<A> {
    pub(crate) const fn new(attempt: A) -> Self {
        Self { attempt, undone: AtomicBool::new(false) }
    }

    pub(crate) async fn run(&self, until: CallDeadline) -> Result<Lease, LockError> {
        self.attempt.run(until).await
    }

    pub(crate) async fn undo(&self, until: CallDeadline) -> Result<(), LockError> {
        self.attempt.undo(until).await?;
        self.undone.store(true, SeqCst);
        Ok(())
    }

    /// Whether the attempt had the lock, and an undo has freed it.
    pub(crate) fn was_undone(&self) -> bool {
        self.undone.load(SeqCst)
    }
}
