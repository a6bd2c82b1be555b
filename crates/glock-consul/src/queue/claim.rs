//! `Claim`: by which right a caller takes a lock.

use serde_json::{Value, json};

use crate::{
    commands::{check_index, delete_cas, get_tree, unlock},
    queue::{keys::MARK, place::Place},
    session::Owner,
};

/// By which right a caller takes a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The lock is free, and nobody waits for it.
    Try,
    /// The lock is free, and the mark, which has this index, is all that is left of its waiters.
    StaleMark(u64),
    /// The lock is free, and this is the first place in the queue.
    First(Place),
    /// The lock is reserved for the caller, or for a waiter that did not claim it in time.
    Reserved {
        /// The owner of the reservation.
        by: Owner,
        /// The places behind it, or the first few of them.
        next: Vec<Place>,
    },
}

impl Claim {
    /// The operations that go before and after the lock at `key`, the keys of whose queue begin with
    /// `queue`.
    pub(crate) fn operations(&self, key: &str, queue: &str) -> (Vec<Value>, Vec<Value>) {
        let mark = || format!("{queue}{MARK}");
        match self {
            Self::Try => (Vec::new(), vec![json!({"Verb": "check-not-exists", "Key": mark()})]),
            Self::StaleMark(index) => (Vec::new(), vec![delete_cas(&mark(), *index)]),
            Self::First(place) => {
                let [check, delete] = place.deleted(queue);
                (vec![check], vec![delete, get_tree(queue)])
            }
            Self::Reserved { by, next } => {
                let after = if next.is_empty() { vec![get_tree(queue)] } else { Vec::new() };
                (by.ended(key), after)
            }
        }
    }
}

impl Owner {
    /// Operations that end the reservation of this owner, of the lock at `key`, if it is there still.
    pub(crate) fn ended(&self, key: &str) -> Vec<Value> {
        vec![check_index(key, self.index), unlock(key, &self.session)]
    }
}
