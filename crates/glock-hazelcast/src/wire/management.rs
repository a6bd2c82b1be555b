//! What a member says of its configuration, and which members the CP Subsystem has.

use crate::wire::{
    error::HazelcastError,
    message::{Message, REPLY},
    request::Request,
    uuid::UUID_BYTES,
};

pub(crate) const MAP_CONFIG: i32 = 0x0020_0300;
pub(crate) const CP_MEMBERS: i32 = 0x0020_1900;

/// What matters of a map's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapConfig {
    /// Synchronous ones.
    pub(crate) backups: u32,
    /// Whether members may drop an entry by themselves: after a time, or where there are many.
    pub(crate) evicts: bool,
}

/// The eviction policy by which nothing is dropped.
const NO_EVICTION: i32 = 2;

impl MapConfig {
    pub(crate) fn request(map: &str) -> Request {
        let mut request = Request::new(MAP_CONFIG);
        request.string(map);
        request
    }

    pub(crate) fn decode(reply: Message) -> Result<Self, HazelcastError> {
        let reply = reply.reply_to(MAP_CONFIG)?;
        let (ttl, idle_max) = (reply.int(REPLY + 12)?, reply.int(REPLY + 16)?);
        // A maximum size, its unit and a switch are between.
        let policy = reply.int(REPLY + 29)?;
        let backups = u32::try_from(reply.int(REPLY + 4)?);
        let backups = backups.map_err(|_| HazelcastError::unexpected("fewer than no backups"))?;
        Ok(Self { backups, evicts: ttl > 0 || idle_max > 0 || policy != NO_EVICTION })
    }
}

pub(crate) fn cp_members() -> Request {
    Request::new(CP_MEMBERS)
}

/// How many members the CP Subsystem has, in the reply to [`cp_members`].
pub(crate) fn count_of_cp_members(reply: Message) -> Result<usize, HazelcastError> {
    let reply = reply.reply_to(CP_MEMBERS)?;
    let members = reply.data()?.unwrap_or_default();
    // Of each its id there, and its id as a member.
    Ok(members.len() / (2 * UUID_BYTES))
}
