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
/// How many seats are kept: a client with more holds and waiters at a time makes others.
const SEATS_MAX: usize = 8_192;

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
        if self.seats >= SEATS_MAX {
            self.drop_one();
        }
        self.sets.entry(of).or_default().push(seat);
        self.seats += 1;
    }

    /// Makes room, where there is most.
    fn drop_one(&mut self) {
        let largest = self.sets.values_mut().max_by_key(|seats| seats.len());
        if let Some(seats) = largest.filter(|seats| !seats.is_empty()) {
            drop(seats.remove(0));
            self.seats -= 1;
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
    fn seats_do_not_pile_up_and_no_lock_is_denied_its_own() {
        let seats = Seats::default();
        // A crowd for one lock, and more locks than there are sets.
        for _ in 0..2 * SEATS_MAX {
            seats.give_back(&id(0), seat().unwrap());
        }
        for n in 1..10_000 {
            let taken = seats.take(&id(n)).unwrap();
            seats.give_back(&id(n), taken);
        }
        let kept: usize = seats.free().sets.values().map(Vec::len).sum();
        assert_eq!((kept, seats.free().seats), (SEATS_MAX, SEATS_MAX));
        let pair = [seats.take(&id(1)).unwrap(), seats.take(&id(1)).unwrap()];
        for seat in &pair {
            seats.give_back(&id(1), seat.clone());
        }
        assert_eq!(seats.take(&id(1)).unwrap(), pair[1]);
        assert_eq!(seats.take(&id(1)).unwrap(), pair[0]);
    }
}
