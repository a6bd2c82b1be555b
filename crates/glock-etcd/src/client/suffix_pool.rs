//! `SuffixPool`: recycled suffixes of waiters' keys. Until compaction, etcd scans every historical key of
//! a range.

use std::collections::HashMap;

use glock_core::{LockError, LockId, toolkit::Mutex};

use crate::schema::{UNQUEUED, suffix};

/// Suffixes that this client may use for the keys of its waiters. Until compaction, etcd scans every
/// historical key of a range to find the present ones: with a fresh key for each waiter, each acquire
/// would take longer than the one before. So each lock uses its own few suffixes again and again.
#[derive(Debug, Default)]
pub(crate) struct SuffixPool {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// The last one of each was used last.
    by_lock: HashMap<LockId, Vec<String>>,
    len: usize,
}

/// How many suffixes are kept. A client that had more waiters makes fresh ones.
const SUFFIXES_MAX: usize = 8_192;

impl SuffixPool {
    /// A suffix that no key of this client has.
    pub(crate) fn take(&self, id: &LockId) -> Result<String, LockError> {
        let taken = self.free.lock().take(id);
        taken.map_or_else(suffix, Ok)
    }

    /// Takes back a suffix whose key is gone. No request in flight may create or delete that key.
    pub(crate) fn give_back(&self, id: &LockId, suffix: String) {
        if suffix != UNQUEUED {
            self.free.lock().give_back(id, suffix);
        }
    }
}

impl Free {
    fn take(&mut self, id: &LockId) -> Option<String> {
        let suffixes = self.by_lock.get_mut(id)?;
        let taken = suffixes.pop();
        self.len -= usize::from(taken.is_some());
        if suffixes.is_empty() {
            self.by_lock.remove(id);
        }
        taken
    }

    fn give_back(&mut self, id: &LockId, suffix: String) {
        if self.len >= SUFFIXES_MAX {
            *self = Self::default();
        }
        self.by_lock.entry(id.clone()).or_default().push(suffix);
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> LockId {
        LockId::new(format!("{n}")).unwrap()
    }

    #[test]
    fn a_lock_gets_its_suffix_back_and_no_two_keys_share_one() {
        let suffixes = SuffixPool::default();
        let (first, second) = (suffixes.take(&id(0)).unwrap(), suffixes.take(&id(0)).unwrap());
        assert_ne!(first, second);
        suffixes.give_back(&id(0), second.clone());
        suffixes.give_back(&id(0), first.clone());
        let third = suffixes.take(&id(1)).unwrap();
        assert!(third != first && third != second);
        let taken = [suffixes.take(&id(0)).unwrap(), suffixes.take(&id(0)).unwrap()];
        assert_eq!(taken, [first, second]);
    }

    #[test]
    fn suffixes_do_not_pile_up() {
        let suffixes = SuffixPool::default();
        for n in 0..3 * SUFFIXES_MAX {
            suffixes.give_back(&id(n % 3_000), suffix().unwrap());
            let free = suffixes.free.lock();
            let kept: usize = free.by_lock.values().map(Vec::len).sum();
            assert!(kept == free.len && kept <= SUFFIXES_MAX, "{kept}");
        }
        suffixes.give_back(&id(0), UNQUEUED.into());
        assert_ne!(suffixes.take(&id(0)).unwrap(), UNQUEUED);
    }
}
