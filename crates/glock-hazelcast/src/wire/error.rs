//! `HazelcastError`: what went wrong between this client and the members.

use glock_core::BoxError;

/// What went wrong between this client and the members. It is the `source()` of a
/// [`LockError::Backend`](glock_core::LockError).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HazelcastError {
    /// There is no connection, so nothing was sent.
    #[error("could not connect to a member")]
    NotSent(#[source] BoxError),

    /// The request was sent, and no reply came.
    #[error("the member did not reply")]
    ReplyLost(#[source] BoxError),

    /// The member did not let this client in.
    #[error("the member refused this client: {0}")]
    Refused(&'static str),

    /// The member replied with an error.
    #[error("the member replied with error {code} ({class}): {message}")]
    Server {
        /// The protocol's number of the error.
        code: i32,
        /// The member's exception.
        class: String,
        /// Its message, without the ids of clients: they prove a hold.
        message: String,
    },

    /// The reply has a form that the protocol does not know.
    #[error("the reply is not Hazelcast's: {0}")]
    UnexpectedReply(String),

    /// The CP Subsystem is not part of this edition, or has too few members.
    #[error(
        "this cluster has no CP Subsystem: it takes Hazelcast 5.4 or older, or the Enterprise edition; \
         `HazelcastLock` works without it"
    )]
    NoCpSubsystem(#[source] Box<HazelcastError>),

    /// The CP Subsystem is in unsafe mode, which replicates without consensus.
    #[error(
        "the CP Subsystem of this cluster is in unsafe mode, where a crash may lose a lock: configure at \
         least three CP members, or accept it by `with_unsafe_mode`"
    )]
    UnsafeMode,

    /// The members do not say which fenced locks there are.
    #[error("this cluster's fenced locks cannot be listed: {0}; `inspect` shows the holder of one")]
    NoListing(&'static str),

    /// The cluster's sessions live longer than the lock was made for.
    #[error(
        "the cluster's CP sessions live for {0:?}, longer than the lock was made for: give that to \
         `with_session_ttl`"
    )]
    SessionTtl(std::time::Duration),
}

/// The protocol's numbers of errors.
pub(crate) mod code {
    pub(crate) const AUTHENTICATION: i32 = 3;
    pub(crate) const CALLER_NOT_MEMBER: i32 = 8;
    pub(crate) const HAZELCAST: i32 = 18;
    pub(crate) const ILLEGAL_ARGUMENT: i32 = 23;
    pub(crate) const ILLEGAL_MONITOR_STATE: i32 = 26;
    pub(crate) const PARTITION_MIGRATING: i32 = 39;
    pub(crate) const SPLIT_BRAIN_PROTECTION: i32 = 42;
    pub(crate) const RETRYABLE: i32 = 46;
    pub(crate) const SECURITY: i32 = 49;
    pub(crate) const TARGET_NOT_MEMBER: i32 = 53;
    pub(crate) const UNSUPPORTED: i32 = 61;
    pub(crate) const WRONG_TARGET: i32 = 62;
    pub(crate) const ACCESS_CONTROL: i32 = 64;
    pub(crate) const LOGIN: i32 = 65;
    pub(crate) const TARGET_NOT_REPLICA: i32 = 82;
    pub(crate) const SESSION_EXPIRED: i32 = 85;
    pub(crate) const LOCK_OWNERSHIP_LOST: i32 = 88;
    pub(crate) const GROUP_DESTROYED: i32 = 89;
    pub(crate) const CANNOT_REPLICATE: i32 = 90;
}

/// A message is cut off here.
const TEXT_MAX: usize = 300;
/// As a UUID is written.
const UUID_LEN: usize = 36;

impl HazelcastError {
    pub(crate) fn unexpected(what: impl Into<String>) -> Self {
        Self::UnexpectedReply(what.into())
    }

    pub(crate) fn server(code: i32, class: &[u8], message: Option<&[u8]>) -> Self {
        let message = message.map_or_else(|| "no message".into(), shown);
        Self::Server { code, class: shown(class), message }
    }

    /// The same failure, of a request that was to be sent beside another one: that one may have arrived.
    pub(crate) fn after_the_first(self) -> Self {
        match self {
            Self::NotSent(why) => Self::ReplyLost(why),
            err => err,
        }
    }

    /// The member's error number, if it replied with one.
    pub(crate) fn code(&self) -> Option<i32> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// The text in one line, not too long, and without UUIDs: that of a client is half of an owner token.
fn shown(text: &[u8]) -> String {
    // Before it is read: it may be megabytes.
    let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_MAX * 4)]);
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        let is_secret = word.len() >= UUID_LEN
            && word.bytes().filter(|byte| *byte == b'-').count() >= 4
            && word.bytes().filter(u8::is_ascii_hexdigit).count() >= UUID_LEN - 4;
        line.push_str(if is_secret { "(a client)" } else { word });
        if line.len() > TEXT_MAX {
            let end = (0..=TEXT_MAX).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
            line.truncate(end);
            line.push_str("..");
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_no_client_and_ends() {
        let text = "Current thread is not owner of the lock! -> Owner: \
                    00112233-4455-6677-8899-aabbccddeeff, thread ID: 3";
        let err = HazelcastError::server(26, b"java.lang.X", Some(text.as_bytes())).to_string();
        assert!(!err.contains("00112233") && err.contains("thread ID: 3"), "{err}");
        let glued = "lock! Key: HeapData{type=-11}, TID: 4, Owner \
                     info: Owner{id=00112233-4455-6677-8899-aabbccddeeff,thread=3}";
        let err = HazelcastError::server(26, b"x", Some(glued.as_bytes())).to_string();
        assert!(!err.contains("00112233"), "{err}");
        let long = HazelcastError::server(0, b"x", Some("\u{e9} ".repeat(9_000).as_bytes()));
        assert!(long.to_string().len() < 2 * TEXT_MAX);
        assert!(HazelcastError::server(26, b"x", None).to_string().ends_with("no message"));
    }
}
