//! The map lock's requests and their replies, over one connection each.

use tokio::try_join;

use crate::{
    client::Link,
    error::is_not_owner,
    schema::{MapNames, Record, random_number},
    wire::{
        HazelcastError, Message, PendingReply,
        map::{self, Key},
    },
};

/// A lock's key, for requests over one connection.
#[derive(Clone, Copy)]
pub(crate) struct LockKey<'a> {
    pub(crate) link: &'a Link,
    pub(crate) names: &'a MapNames,
    pub(crate) key: &'a [u8],
}

/// An owner that locked its key more often is none of this crate's.
const UNLOCKS_MAX: u32 = 32;

impl<'a> LockKey<'a> {
    pub(crate) fn locks(self) -> Key<'a> {
        Key::new(&self.names.locks, self.key, self.link.partitions())
    }

    fn records(self) -> Key<'a> {
        Key::new(&self.names.records, self.key, self.link.partitions())
    }

    pub(crate) fn send_try_lock(
        self,
        thread: i64,
        reference: i64,
        times: (i64, i64),
    ) -> Result<PendingReply, HazelcastError> {
        self.link.send(self.locks().try_lock(thread, reference, times))
    }

    /// Sends the read of the record, which [`value_of`] has the reply of.
    pub(crate) fn send_read(self, thread: i64) -> Result<PendingReply, HazelcastError> {
        self.link.send(self.records().get(thread))
    }

    /// One unlock. Returns whether this owner had the lock.
    pub(crate) async fn unlock(self, thread: i64, reference: i64) -> Result<bool, HazelcastError> {
        was_held(self.link.send(self.locks().unlock(thread, reference))?.await?)
    }

    /// Unlocks until the owner has nothing left. Returns whether it had the lock.
    ///
    /// Each time twice by the same reference, which takes one lock back. Only where that was the last one
    /// does the second find nothing, so the two replies tell whether the lock is free.
    pub(crate) async fn unlock_all(self, thread: i64) -> Result<bool, HazelcastError> {
        for unlocked in 0..UNLOCKS_MAX {
            let reference = random_number().map_err(|err| HazelcastError::NotSent(err.into()))?;
            match self.unlocks(thread, reference, 2).await? {
                0 => return Ok(unlocked > 0),
                1 => return Ok(true),
                _ => {}
            }
        }
        Err(HazelcastError::unexpected("a lock that stays locked"))
    }

    /// Sends the same unlock `count` times at once. Returns how many of them found this owner.
    pub(crate) async fn unlocks(
        self,
        thread: i64,
        reference: i64,
        count: u32,
    ) -> Result<u32, HazelcastError> {
        let mut replies = Vec::new();
        for _ in 0..count {
            let reply = self.link.send(self.locks().unlock(thread, reference));
            let is_first = replies.is_empty();
            replies.push(reply.map_err(|err| if is_first { err } else { err.after_the_first() })?);
        }
        let mut held = 0;
        for reply in replies {
            held += u32::from(was_held(reply.await?)?);
        }
        Ok(held)
    }

    /// Puts this grant on record, under the fence after the last. `last` is what was read before.
    pub(crate) async fn write(
        self,
        thread: i64,
        mut last: Option<Vec<u8>>,
        first_fence: impl Fn() -> Result<u64, HazelcastError>,
        record: impl Fn(u64) -> Record,
    ) -> Result<Record, HazelcastError> {
        loop {
            let next = match &last {
                Some(last) => {
                    let next = parse(last)?.fence.checked_add(1);
                    next.ok_or_else(|| HazelcastError::unexpected("the last fence is used up"))?
                }
                None => first_fence()?,
            };
            let record = record(next);
            if self.replace(thread, last.as_deref(), &record).await? {
                return Ok(record);
            }
            last = value_of(self.send_read(thread)?.await?)?;
        }
    }

    /// Changes what is on record, if that is still `last`. Returns whether it was.
    pub(crate) async fn replace(
        self,
        thread: i64,
        last: Option<&[u8]>,
        record: &Record,
    ) -> Result<bool, HazelcastError> {
        let (records, value) = (self.records(), record.encode());
        if let Some(last) = last {
            let reply = self.link.send(records.replace_if_same(thread, last, &value))?;
            return map::answer(reply.await?, map::REPLACE_IF_SAME);
        }
        let reply = self.link.send(records.put_if_absent(thread, &value))?;
        Ok(map::value(reply.await?, map::PUT_IF_ABSENT)?.is_none())
    }

    /// Whether the lock is taken, and its record.
    pub(crate) async fn look(self) -> Result<(bool, Option<Record>), HazelcastError> {
        let (locked, value) = self.look_up().await?;
        Ok((locked, value.map(|value| parse(&value)).transpose()?))
    }

    /// Whether the lock is taken, and what is on record of it, which may be another program's.
    pub(crate) async fn look_up(self) -> Result<(bool, Option<Vec<u8>>), HazelcastError> {
        let locked = self.link.send(self.locks().is_locked())?;
        let read = self.send_read(1)?;
        let (locked, read) = try_join!(locked, read)?;
        Ok((map::answer(locked, map::IS_LOCKED)?, value_of(read)?))
    }
}

/// What is on record, in the reply to a read.
pub(crate) fn value_of(read: Message) -> Result<Option<Vec<u8>>, HazelcastError> {
    map::value(read, map::GET)
}

pub(crate) fn parse(value: &[u8]) -> Result<Record, HazelcastError> {
    let other = || HazelcastError::unexpected("a record that another program wrote");
    Record::parse(value).ok_or_else(other)
}

fn was_held(reply: Message) -> Result<bool, HazelcastError> {
    match map::done(reply, map::UNLOCK) {
        Ok(()) => Ok(true),
        Err(err) if is_not_owner(&err) => Ok(false),
        Err(err) => Err(err),
    }
}
