//! `Audience`: whom a change stream is for.

use glock_core::toolkit::{WaiterRegistry, Wakeups};

/// Whom a stream is for.
pub(crate) enum Audience {
    /// The waiters in queues, of their turns.
    Waiters(WaiterRegistry),
    /// Those who sleep until a lock may be free, of releases.
    Sleepers(Wakeups),
}

impl Audience {
    /// Wakes the one that the event is for.
    pub(crate) fn receive(&self, text: &str) {
        match self {
            Self::Waiters(waiters) => waiters.turn(waiters.client().number_of(text)),
            Self::Sleepers(sleepers) => sleepers.wake(text),
        }
    }

    /// Events may have been missed.
    pub(crate) fn missed(&self) {
        match self {
            Self::Waiters(waiters) => waiters.missed(),
            Self::Sleepers(sleepers) => sleepers.wake_all(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Waiters(waiters) => waiters.is_empty(),
            Self::Sleepers(sleepers) => sleepers.is_empty(),
        }
    }
}
