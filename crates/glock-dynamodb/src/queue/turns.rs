//! `Turns`: the waiters of a client whose turn it is.

use std::{collections::HashSet, time::Duration};

use glock_core::toolkit::{Mutex, WaiterRegistry};

/// For how long a free lock is the first waiter's: longer than a second and a half, the longest time between two
/// reads of a client with waiters. DynamoDB has no clock, so each client counts it by its own.
pub(crate) const TURN_MAX: Duration = Duration::from_secs(2);

/// The waiters of this client whose turn a reply has shown: they need not read before they claim.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashSet<u64>>);

impl Turns {
    pub(crate) fn note(&self, number: u64, registry: &WaiterRegistry) {
        let mut turns = self.0.lock();
        // Of one that is gone, nothing is left.
        turns.retain(|number| registry.has_waiter(*number));
        turns.insert(number);
    }

    /// Whether it is this waiter's turn, as far as was shown since the last call.
    pub(crate) fn take(&self, number: u64) -> bool {
        self.0.lock().remove(&number)
    }
}
