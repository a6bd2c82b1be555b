//! The messages of a connection itself: the login, pings, and ids that grow with the members' clocks.

use std::{fmt, sync::Arc};

use crate::wire::{
    cluster::ClusterInfo,
    error::HazelcastError,
    message::{Message, REPLY},
    request::Request,
    uuid::Uuid,
};

pub(crate) const AUTHENTICATION: i32 = 0x0000_0100;
pub(crate) const PING: i32 = 0x0000_0b00;
pub(crate) const NEW_ID_BATCH: i32 = 0x001c_0100;

const SERIALIZATION_VERSION: u8 = 1;
/// What the members show of this client.
const CLIENT_TYPE: &str = "RST";
/// Whose protocol this client speaks. Members do not check it.
const CLIENT_VERSION: &str = "5.4.0";

/// How a client logs in.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) cluster: Arc<str>,
    /// User name and password.
    pub(crate) credentials: Option<(Arc<str>, Arc<str>)>,
    pub(crate) client: Uuid,
    /// What the members' logs call this client.
    pub(crate) name: Arc<str>,
}

/// What a member replies to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) member: Option<Uuid>,
    pub(crate) cluster: Uuid,
    pub(crate) partitions: i32,
    pub(crate) info: ClusterInfo,
}

impl Login {
    /// The form of protocol 2.0, which every member since 4.0 takes.
    pub(crate) fn request(&self) -> Request {
        let (user, password) = match &self.credentials {
            Some((user, password)) => (Some(&**user), Some(&**password)),
            None => (None, None),
        };
        let mut request = Request::new(AUTHENTICATION);
        request.uuid(self.client).byte(SERIALIZATION_VERSION);
        request.string(&self.cluster).optional(user).optional(password);
        request.string(CLIENT_TYPE).string(CLIENT_VERSION).string(&self.name).begin().end();
        request
    }
}

impl Welcome {
    /// # Errors
    ///
    /// [`HazelcastError::Refused`] if the member does not let this client in.
    pub(crate) fn decode(reply: &Message) -> Result<Self, HazelcastError> {
        let refused = match reply.byte(REPLY)? {
            0 => None,
            1 => Some("the cluster name, the user name or the password is wrong"),
            2 => Some("it uses another version of serialization"),
            3 => Some("clients like this one are not allowed in this cluster"),
            _ => Some("it gives no reason"),
        };
        if let Some(why) = refused {
            return Err(HazelcastError::Refused(why));
        }
        let (partitions, cluster) = (reply.int(REPLY + 19)?, reply.uuid(REPLY + 23)?);
        match cluster {
            Some(cluster) if partitions > 0 => {
                let (member, info) = (reply.uuid(REPLY + 1)?, ClusterInfo::read(reply));
                Ok(Self { member, cluster, partitions, info })
            }
            _ => Err(HazelcastError::unexpected("a login without a cluster or without partitions")),
        }
    }
}

/// Shows no password, and no client.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("cluster", &self.cluster)
            .field("credentials", &self.credentials.as_ref().map(|_| ".."))
            .finish_non_exhaustive()
    }
}

/// What shows that a connection lives.
pub(crate) fn ping() -> Request {
    Request::new(PING)
}

/// One id of a generator, which is made of the member's clock.
pub(crate) mod new_ids {
    use super::{HazelcastError, Message, NEW_ID_BATCH, REPLY, Request};

    pub(crate) fn request(generator: &str) -> Request {
        let mut request = Request::new(NEW_ID_BATCH);
        request.int(1).string(generator);
        request
    }

    pub(crate) fn decode(reply: Message) -> Result<i64, HazelcastError> {
        reply.reply_to(NEW_ID_BATCH)?.long(REPLY)
    }
}
