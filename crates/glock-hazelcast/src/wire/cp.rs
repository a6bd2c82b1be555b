//! The messages of the CP Subsystem: groups, sessions and fenced locks.

use std::{fmt, sync::Arc, time::Duration};

use crate::wire::{
    error::HazelcastError,
    frame::{BEGIN_STRUCTURE, END_STRUCTURE},
    message::{Message, REPLY, next_text, skip_structure},
    request::Request,
    uuid::Uuid,
};

pub(crate) const TRY_LOCK: i32 = 0x0007_0200;
pub(crate) const UNLOCK: i32 = 0x0007_0300;
pub(crate) const GET_OWNERSHIP: i32 = 0x0007_0400;
pub(crate) const CREATE_GROUP: i32 = 0x001e_0100;
pub(crate) const CREATE_SESSION: i32 = 0x001f_0100;
pub(crate) const CLOSE_SESSION: i32 = 0x001f_0200;
pub(crate) const HEARTBEAT: i32 = 0x001f_0300;
/// Since Hazelcast 5.4.
pub(crate) const LIST_OBJECTS: i32 = 0x0022_0600;

/// What fenced locks are a kind of.
const LOCKS: &str = "hz:raft:lockService";

/// A CP group: its name, and which one of that name it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GroupId {
    pub(crate) name: Arc<str>,
    pub(crate) seed: i64,
    pub(crate) id: i64,
}

/// A session as the cluster made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionGrant {
    pub(crate) id: i64,
    pub(crate) ttl: Duration,
    pub(crate) heartbeat: Duration,
}

/// Who has a fenced lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    /// Zero: it is free.
    pub(crate) fence: i64,
    pub(crate) session: i64,
    pub(crate) thread: i64,
}

/// One owner of fenced locks, as the cluster knows it: a session and a thread in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub(crate) session: i64,
    pub(crate) thread: i64,
}

impl GroupId {
    fn request(&self, kind: i32, fixed: impl FnOnce(&mut Request)) -> Request {
        let mut request = Request::new(kind);
        fixed(&mut request);
        request.begin().longs([self.seed, self.id]).string(&self.name).end();
        request
    }

    /// Takes the lock if it is free within `wait_ms`. Repeated with the same `invocation`, it has one effect.
    pub(crate) fn try_lock(
        &self,
        lock: &str,
        owner: Endpoint,
        invocation: Uuid,
        wait_ms: i64,
    ) -> Request {
        let mut request = self.request(TRY_LOCK, |request| {
            request.long(owner.session).long(owner.thread).uuid(invocation).long(wait_ms);
        });
        request.string(lock);
        request
    }

    /// Releases the lock. Repeated with the same `invocation`, it has one effect.
    pub(crate) fn unlock(&self, lock: &str, owner: Endpoint, invocation: Uuid) -> Request {
        let mut request = self.request(UNLOCK, |request| {
            request.long(owner.session).long(owner.thread).uuid(invocation);
        });
        request.string(lock);
        request
    }

    pub(crate) fn get_ownership(&self, lock: &str) -> Request {
        let mut request = self.request(GET_OWNERSHIP, |_| {});
        request.string(lock);
        request
    }

    /// Lists the names of all fenced locks that were ever used, of this group.
    pub(crate) fn list_locks(&self) -> Request {
        // Without those that were destroyed.
        let mut request = self.request(LIST_OBJECTS, |request| {
            request.byte(0);
        });
        request.string(LOCKS);
        request
    }

    pub(crate) fn create_session(&self, client: &str) -> Request {
        let mut request = self.request(CREATE_SESSION, |_| {});
        request.string(client);
        request
    }

    pub(crate) fn close_session(&self, session: i64) -> Request {
        self.request(CLOSE_SESSION, |request| {
            request.long(session);
        })
    }

    pub(crate) fn heartbeat(&self, session: i64) -> Request {
        self.request(HEARTBEAT, |request| {
            request.long(session);
        })
    }

    /// Reads the group in a reply to [`create_group`].
    pub(crate) fn decode(reply: Message) -> Result<Self, HazelcastError> {
        let reply = reply.reply_to(CREATE_GROUP)?;
        let mut frames = reply.parameters();
        let begins = frames.next().is_some_and(|frame| frame.has(BEGIN_STRUCTURE));
        let fixed = frames.next().map(|frame| frame.content).unwrap_or_default();
        let [seed, id] = *fixed
            .as_chunks::<8>()
            .0
            .first_chunk::<2>()
            .filter(|_| begins)
            .ok_or_else(|| HazelcastError::unexpected("it is no group"))?;
        let name = next_text(&mut frames)?.into();
        skip_structure(&mut frames);
        Ok(Self { name, seed: i64::from_le_bytes(seed), id: i64::from_le_bytes(id) })
    }
}

impl SessionGrant {
    pub(crate) fn decode(reply: Message) -> Result<Self, HazelcastError> {
        let reply = reply.reply_to(CREATE_SESSION)?;
        let millis = |at| {
            let millis = reply.long(at)?;
            let positive = u64::try_from(millis).ok().filter(|millis| *millis > 0);
            let found = positive.map(Duration::from_millis);
            found.ok_or_else(|| HazelcastError::unexpected(format!("a time of {millis} ms")))
        };
        let (id, ttl, heartbeat) = (reply.long(REPLY)?, millis(REPLY + 8)?, millis(REPLY + 16)?);
        Ok(Self { id, ttl, heartbeat })
    }
}

impl Ownership {
    pub(crate) fn decode(reply: Message) -> Result<Self, HazelcastError> {
        let reply = reply.reply_to(GET_OWNERSHIP)?;
        let (session, thread) = (reply.long(REPLY + 12)?, reply.long(REPLY + 20)?);
        Ok(Self { fence: reply.long(REPLY)?, session, thread })
    }
}

/// Makes the group that a lock of this name belongs to, or finds it.
pub(crate) fn create_group(lock: &str) -> Request {
    let mut request = Request::new(CREATE_GROUP);
    request.string(lock);
    request
}

/// The fence in a reply to a [`GroupId::try_lock`]; `None`: the lock was not free in time.
pub(crate) fn fence(reply: Message) -> Result<Option<u64>, HazelcastError> {
    let fence = reply.reply_to(TRY_LOCK)?.long(REPLY)?;
    Ok(u64::try_from(fence).ok().filter(|fence| *fence > 0))
}

/// The names in a reply to a [`GroupId::list_locks`].
pub(crate) fn names(reply: Message) -> Result<Vec<String>, HazelcastError> {
    let reply = reply.reply_to(LIST_OBJECTS)?;
    let mut frames = reply.parameters();
    if !frames.next().is_some_and(|frame| frame.has(BEGIN_STRUCTURE)) {
        return Err(HazelcastError::unexpected("it has no list of names"));
    }
    let frames = frames.take_while(|frame| !frame.has(END_STRUCTURE));
    // A name that is no text is none of this crate's.
    Ok(frames.filter_map(|frame| String::from_utf8(frame.content.to_vec()).ok()).collect())
}

/// Whether the owner still has the lock, in a reply to a [`GroupId::unlock`].
pub(crate) fn still_held(reply: Message) -> Result<bool, HazelcastError> {
    reply.reply_to(UNLOCK)?.bool(REPLY)
}

/// A thread proves a hold.
impl fmt::Debug for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ownership").field("fence", &self.fence).finish_non_exhaustive()
    }
}

/// As [`Ownership`]'s.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("session", &self.session).finish_non_exhaustive()
    }
}
