//! `Seats`: what the keys of a client end in, used again and again.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use glock_core::{LockError, LockId};

use crate::schema::seat;

/// The last parts of keys that this client may use. Until its history is compacted, etcd looks at
/// every key that ever was in a lock's range to say whether there is one now: if each hold had a
/// key of its own, each would take longer than the one before. So a lock gets the seats back that
/// it had; if any lock could have any, each would have had all of them in time.
#[derive(Debug, Default)]
pub(crate) struct Seats {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// In each set, the last was used last.
    sets: HashMap<u64, Vec<String>>,
    seats: usize,
}

/// Each lock has one of so many sets, so that a client that has had a million locks has not as many
/// seats.
const SETS: u64 = 1_024;
/// Of so many seats or more, each set keeps one: a client with more holds and waiters at a time
/// makes others.
const SEATS_MAX: usize = 1_024;

impl Seats {
    /// One that no key of this client ends in.
    pub(crate) fn take(&self, id: &LockId) -> Result<String, LockError> {
        let free = self.free().take(set(id));
        free.map_or_else(seat, Ok)
    }

    /// Takes back one whose key is gone. No request that could make or delete a key of that name,
    /// whoever made it, may be on its way.
    pub(crate) fn give_back(&self, id: &LockId, seat: String) {
        self.free().give_back(set(id), seat);
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    fn take(&mut self, of: u64) -> Option<String> {
        let seat = self.sets.get_mut(&of)?.pop()?;
        self.seats -= 1;
        Some(seat)
    }

    fn give_back(&mut self, of: u64, seat: String) {
        let same = self.sets.entry(of).or_default();
        if same.is_empty() || self.seats < SEATS_MAX {
            same.push(seat);
            self.seats += 1;
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
    fn a_lock_gets_back_the_seat_that_it_had_and_no_two_have_one_at_a_time() {
        let seats = Seats::default();
        // Two of all that share no set.
        let (one, other) =
            (id(0), (1..99).map(id).find(|other| set(other) != set(&id(0))).unwrap());
        let (first, second) = (seats.take(&one).unwrap(), seats.take(&one).unwrap());
        assert_ne!(first, second);
        seats.give_back(&one, second.clone());
        seats.give_back(&one, first.clone());
        let third = seats.take(&other).unwrap();
        assert!(third != first && third != second);
        assert_eq!((seats.take(&one).unwrap(), seats.take(&one).unwrap()), (first, second));
    }

    #[test]
    fn seats_do_not_pile_up() {
        let seats = Seats::default();
        for n in 0..10_000 {
            seats.give_back(&id(n), seat().unwrap());
        }
        let kept: usize = seats.free().sets.values().map(Vec::len).sum();
        assert!(kept <= SEATS_MAX + usize::try_from(SETS).unwrap(), "{kept}");
        assert_eq!(kept, seats.free().seats);
        // Those of one lock, too.
        let seats = Seats::default();
        for _ in 0..10_000 {
            seats.give_back(&id(0), seat().unwrap());
        }
        assert_eq!(seats.free().seats, SEATS_MAX);
    }
}
