//! The messages of maps: key locks, and the entries beside them.

use crate::wire::{
    error::HazelcastError,
    message::{Message, REPLY},
    partition::partition_of,
    request::Request,
    value::long,
};

pub(crate) const GET: i32 = 0x0001_0200;
pub(crate) const REPLACE_IF_SAME: i32 = 0x0001_0500;
pub(crate) const REMOVE_IF_SAME: i32 = 0x0001_0800;
pub(crate) const DELETE: i32 = 0x0001_0900;
pub(crate) const PUT_IF_ABSENT: i32 = 0x0001_0e00;
pub(crate) const SET: i32 = 0x0001_0f00;
pub(crate) const TRY_LOCK: i32 = 0x0001_1100;
pub(crate) const IS_LOCKED: i32 = 0x0001_1200;
pub(crate) const UNLOCK: i32 = 0x0001_1300;

/// A key of a map, and the partition that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key<'a> {
    map: &'a str,
    data: &'a [u8],
    partition: i32,
}

/// Which thread of this client requests. Members take it as half of a lock's owner.
pub(crate) type Thread = i64;

impl<'a> Key<'a> {
    /// A key in a cluster of so many partitions.
    pub(crate) fn new(map: &'a str, key: &'a [u8], partitions: i32) -> Self {
        Self { map, data: key, partition: partition_of(key, partitions) }
    }

    fn request(self, kind: i32, fixed: &[i64], values: &[&[u8]]) -> Request {
        let mut request = Request::to_partition(kind, self.partition);
        for value in fixed {
            request.long(*value);
        }
        request.string(self.map).data(self.data);
        for value in values {
            request.data(value);
        }
        request
    }

    /// Takes the key's lock for `lease_ms` if it is free within `wait_ms`, or once more if `thread` has it.
    /// Repeated with the same reference, it has one effect.
    pub(crate) fn try_lock(
        self,
        thread: Thread,
        reference: i64,
        (lease_ms, wait_ms): (i64, i64),
    ) -> Request {
        self.request(TRY_LOCK, &[thread, lease_ms, wait_ms, reference], &[])
    }

    /// Takes back one [`try_lock`](Self::try_lock) of `thread`. Repeated with the same reference while
    /// `thread` still has the lock, it has one effect.
    pub(crate) fn unlock(self, thread: Thread, reference: i64) -> Request {
        self.request(UNLOCK, &[thread, reference], &[])
    }

    /// Whether any client has the key's lock.
    pub(crate) fn is_locked(self) -> Request {
        self.request(IS_LOCKED, &[], &[])
    }

    pub(crate) fn get(self, thread: Thread) -> Request {
        self.request(GET, &[thread], &[])
    }

    /// Stores a value, for ever if there is none; the reply has the one that there is.
    pub(crate) fn put_if_absent(self, thread: Thread, value: &[u8]) -> Request {
        self.request(PUT_IF_ABSENT, &[thread, 0], &[value])
    }

    pub(crate) fn replace_if_same(self, thread: Thread, old: &[u8], new: &[u8]) -> Request {
        self.request(REPLACE_IF_SAME, &[thread], &[old, new])
    }

    /// Changes nothing, and replies once no other client has the key's lock: no value equals this one.
    pub(crate) fn await_unlocked(self, thread: Thread) -> Request {
        self.request(REMOVE_IF_SAME, &[thread], &[&long(i64::MIN)])
    }

    pub(crate) fn set(self, thread: Thread, value: &[u8], ttl_ms: i64) -> Request {
        self.request(SET, &[thread, ttl_ms], &[value])
    }

    pub(crate) fn delete(self, thread: Thread) -> Request {
        self.request(DELETE, &[thread], &[])
    }
}

/// The value in a reply to `kind`, if there is one.
pub(crate) fn value(reply: Message, kind: i32) -> Result<Option<Vec<u8>>, HazelcastError> {
    let reply = reply.reply_to(kind)?;
    Ok(reply.data()?.map(<[u8]>::to_vec))
}

/// Yes or no in a reply to `kind`.
pub(crate) fn answer(reply: Message, kind: i32) -> Result<bool, HazelcastError> {
    reply.reply_to(kind)?.bool(REPLY)
}

/// A reply to `kind` that says nothing but that it is done.
pub(crate) fn done(reply: Message, kind: i32) -> Result<(), HazelcastError> {
    reply.reply_to(kind).map(drop)
}
