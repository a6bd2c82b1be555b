//! `SuffixPool`: recycled key suffixes. Until compaction, etcd scans every historical key of a range.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use glock_core::{LockError, LockId, toolkit::Mutex};

use crate::schema::suffix;

/// Key suffixes that this client may use. Until compaction, etcd scans every historical key of a range
/// to find the present ones: with a fresh key for each hold, each acquire would take longer than the
/// one before. So each lock uses its own few suffixes again and again.
#[derive(Debug, Default)]
pub(crate) struct SuffixPool {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// In each set, the last one was used last.
    sets: HashMap<u64, Vec<String>>,
    suffixes: usize,
}

/// Locks are hashed to this many sets of suffixes, so that a client that has used a million locks does
/// not keep as many suffixes.
const SETS: u64 = 1_024;
/// How many suffixes are kept. A client with more holds and waiters at a time makes fresh ones.
const SUFFIXES_MAX: usize = 8_192;

impl SuffixPool {
    /// A suffix that no key of this client has.
    pub(crate) fn take(&self, id: &LockId) -> Result<String, LockError> {
        let free = self.free.lock().take(set(id));
        free.map_or_else(suffix, Ok)
    }

    /// Takes back a suffix whose key is gone. No request in flight may create or delete that key.
    pub(crate) fn give_back(&self, id: &LockId, suffix: String) {
        self.free.lock().give_back(set(id), suffix);
    }
}

impl Free {
    fn take(&mut self, set: u64) -> Option<String> {
        let suffix = self.sets.get_mut(&set)?.pop()?;
        self.suffixes -= 1;
        Some(suffix)
    }

    fn give_back(&mut self, set: u64, suffix: String) {
        if self.suffixes >= SUFFIXES_MAX {
            self.drop_one();
        }
        self.sets.entry(set).or_default().push(suffix);
        self.suffixes += 1;
    }

    /// Drops the oldest suffix of the largest set.
    fn drop_one(&mut self) {
        let largest = self.sets.values_mut().max_by_key(|suffixes| suffixes.len());
        if let Some(suffixes) = largest.filter(|suffixes| !suffixes.is_empty()) {
            drop(suffixes.remove(0));
            self.suffixes -= 1;
        }
    }
}

fn set(id: &LockId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.as_str().hash(&mut hasher);
    hasher.finish() % SETS
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
        // Two of all that share no set.
        let (one, other) =
            (id(0), (1..99).map(id).find(|other| set(other) != set(&id(0))).unwrap());
        let (first, second) = (suffixes.take(&one).unwrap(), suffixes.take(&one).unwrap());
        assert_ne!(first, second);
        suffixes.give_back(&one, second.clone());
        suffixes.give_back(&one, first.clone());
        let third = suffixes.take(&other).unwrap();
        assert!(third != first && third != second);
        assert_eq!((suffixes.take(&one).unwrap(), suffixes.take(&one).unwrap()), (first, second));
    }

    #[test]
    fn suffixes_do_not_pile_up_and_every_lock_keeps_some() {
        let suffixes = SuffixPool::default();
        // A crowd for one lock, and more locks than there are sets.
        for _ in 0..2 * SUFFIXES_MAX {
            suffixes.give_back(&id(0), suffix().unwrap());
        }
        for n in 1..10_000 {
            let taken = suffixes.take(&id(n)).unwrap();
            suffixes.give_back(&id(n), taken);
        }
        let kept: usize = suffixes.free.lock().sets.values().map(Vec::len).sum();
        assert_eq!((kept, suffixes.free.lock().suffixes), (SUFFIXES_MAX, SUFFIXES_MAX));
        let pair = [suffixes.take(&id(1)).unwrap(), suffixes.take(&id(1)).unwrap()];
        for suffix in &pair {
            suffixes.give_back(&id(1), suffix.clone());
        }
        assert_eq!(suffixes.take(&id(1)).unwrap(), pair[1]);
        assert_eq!(suffixes.take(&id(1)).unwrap(), pair[0]);
    }
}
