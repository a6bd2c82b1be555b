//! `Seats`: what the keys of a client end in, used again and again.

use std::sync::{Mutex, MutexGuard, PoisonError};

use glock_core::LockError;

use crate::schema::seat;

/// The last parts of keys that this client may use. Until its history is compacted, etcd looks at
/// every key that ever was in a lock's range to say whether there is one now: if each hold had a
/// key of its own, each would take longer than the one before.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    /// The last was used last.
    free: Mutex<Vec<String>>,
}

/// How many are kept: a client with more holds and waiters at a time makes others.
const FREE_MAX: usize = 1_024;

impl Seats {
    /// One that no key of this client ends in.
    pub(crate) fn take(&self) -> Result<String, LockError> {
        let free = self.free().pop();
        free.map_or_else(seat, Ok)
    }

    /// Takes back one whose key is gone. No request that could make or delete a key of that name,
    /// whoever made it, may be on its way.
    pub(crate) fn give_back(&self, seat: String) {
        let mut free = self.free();
        if free.len() < FREE_MAX {
            free.push(seat);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<String>> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
