//! Where the queues are, and what the key of a lock says that is reserved.
//!
//! The waiters of a lock have places at `{namespace}/.queue/{id}/{waiter}`, and the key
//! `{namespace}/.queue/{id}/-` marks a lock that may have waiters. What a client is to learn about a lock is at
//! `{namespace}/.turns/{client}/{id}`. No lock is at any of these keys, because its id would have another form.

use glock_core::LockId;

use crate::{
    schema::{Entry, Keys, Record},
    session::Owner,
};

/// The last part of the key that marks a lock with waiters. No waiter's name is like it.
pub(crate) const MARK: &str = "-";
/// Below the key of a client's turns, there is always a key that begins so: see `Sessions::of_places`. No id does.
pub(crate) const ROOT: &str = ".root.";

impl Keys {
    /// What the keys in the queue of a lock begin with.
    pub(crate) fn queue(&self, id: &LockId) -> String {
        format!("{}.queue/{}/", self.prefix, self.encoded(id))
    }

    /// The key that says whether a lock may have waiters.
    pub(crate) fn mark(&self, id: &LockId) -> String {
        format!("{}{MARK}", self.queue(id))
    }

    /// What the keys begin with by which a client learns whose turn it is.
    pub(crate) fn turns(&self, client: &str) -> String {
        format!("{}.turns/{client}/", self.prefix)
    }

    /// The key by which a client learns whose turn it is for one lock.
    pub(crate) fn turn(&self, client: &str, id: &LockId) -> String {
        format!("{}{}", self.turns(client), self.encoded(id))
    }
}

impl Entry {
    /// The waiter that the lock is reserved for, and the session and index of the reservation.
    pub(crate) fn reservation(&self) -> Option<(String, Owner)> {
        Some((self.record().turn?, self.owner()?))
    }
}

impl Record {
    /// The record of a lock that is reserved for `waiter`.
    pub(crate) fn reserved(waiter: &str) -> Self {
        Self { turn: Some(waiter.into()), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use glock_core::LockConfig;

    use super::*;

    #[test]
    fn no_lock_is_at_a_key_of_a_queue() {
        let keys = Keys::new(&LockConfig::default().with_namespace("ns"));
        let id = LockId::new(".a/b").unwrap();
        assert_eq!(keys.mark(&id), "ns/.queue/%2Ea%2Fb/-");
        assert_eq!(keys.turn("0a", &id), "ns/.turns/0a/%2Ea%2Fb");
        for key in [keys.mark(&id), keys.queue(&id), keys.turn("0a", &id), keys.turns("0a")] {
            assert_eq!(keys.id(&key), None);
            assert_ne!(keys.key(&LockId::new(&key[3..]).unwrap()), key);
        }
    }
}
