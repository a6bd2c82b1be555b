//! `Place` and `LockQueue`: a waiter's place, and what Consul has about a lock and its waiters.

use glock_core::toolkit::client_of;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    commands::{check_index, delete},
    queue::keys::MARK,
    schema::Entry,
    session::Owner,
};

/// A waiter's place in the queue of a lock: a key that its client's session has locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The waiter's name, and the last part of the key.
    #[serde(rename = "w")]
    pub(crate) waiter: String,
    /// The session of the waiter's client.
    #[serde(rename = "s")]
    pub(crate) session: String,
    /// The Raft index at which the place was made.
    #[serde(rename = "i")]
    pub(crate) index: u64,
}

/// What a client learns when it is the turn of one of its waiters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Turn {
    /// The waiter's name.
    #[serde(rename = "w")]
    pub(crate) waiter: String,
    /// The index of its place. It makes each turn differ from the one before: Consul replies to a query only
    /// when a value has changed.
    #[serde(rename = "i")]
    pub(crate) place: u64,
    /// The places behind it, or the first few of them.
    #[serde(rename = "p", default)]
    pub(crate) next: Vec<Place>,
}

/// What Consul has about a lock and its waiters.
#[derive(Debug, Default)]
pub(crate) struct LockQueue {
    /// The key of the lock, if there is one.
    pub(crate) entry: Option<Entry>,
    /// The index of the key that marks the lock as one with waiters.
    pub(crate) mark: Option<u64>,
    /// In the order of arrival.
    pub(crate) places: Vec<Place>,
}

/// How many places are passed on from holder to holder: enough that the queue is seldom read.
pub(crate) const NEXT_MAX: usize = 8;

impl Place {
    /// The name of the waiter's client.
    pub(crate) fn client(&self) -> &str {
        client_of(&self.waiter)
    }

    /// Operations that delete the place from the queue whose keys begin with `queue`, if it is there still.
    /// (`delete-cas` of a key that is gone succeeds.)
    pub(crate) fn deleted(&self, queue: &str) -> [Value; 2] {
        let key = format!("{queue}{}", self.waiter);
        [check_index(&key, self.index), delete(&key)]
    }
}

impl LockQueue {
    /// What `entries` say of the lock at `key`, the keys of whose queue begin with `prefix`. Others are
    /// left out.
    pub(crate) fn read<'a>(
        key: &str,
        prefix: &str,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Self {
        let (mut queue, mut places) = (Self::default(), Vec::new());
        for entry in entries {
            match entry.key.strip_prefix(prefix) {
                Some(MARK) => queue.mark = Some(entry.modify_index),
                Some(waiter) => {
                    let Some(Owner { session, index }) = entry.owner() else { continue };
                    let place = Place { waiter: waiter.into(), session, index };
                    places.push((entry.create_index, place));
                }
                None if entry.key == key => queue.entry = Some(entry.clone()),
                None => {}
            }
        }
        places.sort_unstable_by_key(|(order, _)| *order);
        queue.places = places.into_iter().map(|(_, place)| place).collect();
        queue
    }

    /// The first few places.
    pub(crate) fn next(&self) -> Vec<Place> {
        self.places.iter().take(NEXT_MAX).cloned().collect()
    }

    /// The place of this waiter.
    pub(crate) fn place(&self, waiter: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.waiter == waiter)
    }

    pub(crate) fn is_first(&self, waiter: &str) -> bool {
        self.places.first().is_some_and(|place| place.waiter == waiter)
    }

    /// The waiter that the lock is reserved for, and the owner of the reservation.
    pub(crate) fn reservation(&self) -> Option<(String, Owner)> {
        self.entry.as_ref()?.reservation()
    }

    /// Whether a session has the lock, to hold it or to keep it for a waiter.
    pub(crate) fn is_locked(&self) -> bool {
        self.entry.as_ref().is_some_and(Entry::is_locked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, session: &str, index: u64) -> Entry {
        let text = format!(
            r#"{{"Key":"{key}","Value":null,"Session":"{session}","CreateIndex":{index},"ModifyIndex":{}}}"#,
            index + 100
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_queue_is_in_the_order_in_which_its_places_were_made() {
        let entries = [
            entry("n/.queue/a/0b:1", "s2", 9),
            entry("n/.queue/a/-", "", 5),
            entry("n/.queue/a/0a:7", "s1", 12),
            entry("n/.queue/a/0a:3", "s1", 8),
            // Its client is gone, or it is another program's.
            entry("n/.queue/a/0c:1", "", 1),
            entry("n/.queue/ab/0c:1", "s3", 1),
            entry("n/ab", "s4", 2),
            entry("n/a", "s5", 3),
        ];
        let queue = LockQueue::read("n/a", "n/.queue/a/", &entries);
        let waiters: Vec<_> = queue.places.iter().map(|place| &*place.waiter).collect();
        assert_eq!(waiters, ["0a:3", "0b:1", "0a:7"]);
        assert_eq!((queue.mark, queue.is_locked()), (Some(105), true));
        assert!(queue.is_first("0a:3") && !queue.is_first("0b:1"));
        let place = queue.place("0a:7").unwrap();
        assert_eq!((place.client(), place.index), ("0a", 112));
        assert!(queue.place("0c:1").is_none() && queue.reservation().is_none());
        let nothing = LockQueue::read("n/b", "n/.queue/b/", &entries);
        assert!(!nothing.is_locked() && nothing.mark.is_none() && nothing.places.is_empty());
    }
}
