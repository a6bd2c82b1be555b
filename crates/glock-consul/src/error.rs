//! `ConsulError`: what went wrong between client and agent, and what that means for a lock.

use glock_core::{Action, BoxError, Fault, LockError, backend};

/// What went wrong between this client and the agent. It is the `source()` of a
/// [`LockError::Backend`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsulError {
    /// There is no connection, so nothing was sent.
    #[error("could not connect to the agent")]
    NotSent(#[source] BoxError),

    /// The request was sent, and the connection ended before the reply.
    #[error("the connection ended before the agent's reply")]
    ReplyLost(#[source] BoxError),

    /// The agent refused the request, or could not serve it.
    #[error("the agent replied {status}: {text}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The reply's text, without session ids.
        text: String,
    },

    /// The reply has a form that Consul does not use, as of a gateway before the agent. Earlier replies
    /// were Consul's, so it may pass.
    #[error("the reply is not Consul's: {0}")]
    UnexpectedReply(String),

    /// As [`UnexpectedReply`](Self::UnexpectedReply), and no earlier reply was Consul's: the URL is wrong.
    #[error("the reply is not Consul's, and none was before; check the URL: {0}")]
    NotConsul(String),
}

/// A reply's text is cut off here in messages.
const TEXT_MAX: usize = 300;
const SESSION_LEN: usize = 36;

impl ConsulError {
    pub(crate) fn status(status: u16, body: &[u8]) -> Self {
        Self::Status { status, text: shown(&String::from_utf8_lossy(body)) }
    }

    /// What the failure means for the lock.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::NotSent(_) => Fault::Unavailable,
            // The reply may be a gateway's, and the agent behind it may have carried the request out.
            Self::ReplyLost(_) | Self::UnexpectedReply(_) | Self::NotConsul(_) => Fault::Unknown,
            Self::Status { status, text } => match status {
                // A gateway's: it may have passed a part of the request on.
                408 => Fault::Unknown,
                // Too early or too many requests: the agent did not look at this one. Or a transaction
                // that was rolled back, for a reason that this version of Consul words in its own way.
                409 | 425 | 429 => Fault::Unavailable,
                500.. => failed_inside(text),
                _ => Fault::Rejected,
            },
        }
    }

    /// Whether the request may have been carried out.
    pub(crate) fn is_unknown(&self) -> bool {
        self.fault() == Fault::Unknown
    }

    /// Whether the servers refuse sessions with such a TTL.
    pub(crate) fn is_ttl_refused(&self) -> bool {
        matches!(self, Self::Status { text, .. } if text.contains("Invalid Session TTL"))
    }

    pub(crate) fn during(self, action: Action) -> LockError {
        let looks =
            matches!(action, Action::Inspect | Action::Wait | Action::List | Action::Preflight);
        let fault = match self {
            // A look changes nothing.
            Self::NotConsul(_) if looks => Fault::Rejected,
            Self::UnexpectedReply(_) if looks => Fault::Unavailable,
            _ => self.fault(),
        };
        LockError::backend(backend::CONSUL, action, fault, self)
    }

    /// As [`during`](Self::during), for a request that came before the one that changes the lock:
    /// whatever happened, the lock is as it was.
    pub(crate) fn before(self, action: Action) -> LockError {
        let fault = match self.fault() {
            // The server is not Consul, and will not be the next time.
            _ if matches!(self, Self::NotConsul(_)) => Fault::Rejected,
            Fault::Unknown => Fault::Unavailable,
            fault => fault,
        };
        LockError::backend(backend::CONSUL, action, fault, self)
    }
}

/// Consul replies with status 500 to whatever goes wrong inside.
fn failed_inside(text: &str) -> Fault {
    if text.contains("No cluster leader") || text.contains("No path to datacenter") {
        // There was no server to forward it to.
        Fault::Unavailable
    } else if ["Permission denied", "ACL not found", "Invalid Session TTL", "UUID"]
        .iter()
        .any(|known| text.contains(known))
    {
        Fault::Rejected
    } else {
        // A leader that was deposed may have written it to the log, and a server may have forwarded it
        // before its connection broke.
        Fault::Unknown
    }
}

/// The text in one line, not too long, and without session ids: they prove a hold.
fn shown(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        let secret = |part: &str| {
            part.len() >= SESSION_LEN
                && part.bytes().filter(|&b| b == b'-').count() >= 4
                && part.bytes().filter(u8::is_ascii_hexdigit).count() >= SESSION_LEN - 4
        };
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str(if secret(word) { "(a session)" } else { word });
        if line.len() > TEXT_MAX {
            let end = (0..=TEXT_MAX).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
            line.truncate(end);
            line.push_str("..");
            break;
        }
    }
    if line.is_empty() { "nothing".into() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(status: u16, text: &str) -> Fault {
        ConsulError::status(status, text.as_bytes()).fault()
    }

    #[test]
    fn what_may_have_happened_is_unknown() {
        assert_eq!(fault(500, "rpc error making call: EOF"), Fault::Unknown);
        assert_eq!(fault(500, "leadership lost while committing log"), Fault::Unknown);
        assert_eq!(fault(500, "No cluster leader"), Fault::Unavailable);
        assert_eq!(fault(429, "Too Many Requests"), Fault::Unavailable);
        assert_eq!(fault(503, "upstream connect error or disconnect"), Fault::Unknown);
        for (action, expected) in [
            (Action::Acquire, Fault::Unknown),
            (Action::Renew, Fault::Unknown),
            (Action::Release, Fault::Unknown),
            (Action::Inspect, Fault::Rejected),
            (Action::Wait, Fault::Rejected),
        ] {
            let not_consul = ConsulError::NotConsul("x".into());
            assert!(not_consul.is_unknown());
            assert_eq!(not_consul.during(action).fault(), Some(expected), "{action:?}");
            let unexpected = ConsulError::UnexpectedReply("x".into()).during(action);
            assert!(unexpected.is_retryable(), "a gateway's reply passes: {action:?}");
        }
        assert_eq!(fault(403, "ACL not found"), Fault::Rejected);
        assert_eq!(fault(500, "rpc error: Permission denied"), Fault::Rejected);
        assert_eq!(fault(413, "Request body too large"), Fault::Rejected);
        assert_eq!(ConsulError::NotSent("x".into()).fault(), Fault::Unavailable);
    }

    #[test]
    fn what_passes_by_itself_is_not_rejected() {
        for status in [408, 409, 425, 429, 500, 502, 503, 504] {
            assert_ne!(fault(status, "x"), Fault::Rejected, "{status}");
        }
    }

    #[test]
    fn before_the_lock_was_touched_nothing_is_unknown() {
        let err = ConsulError::status(500, b"rpc error: EOF").before(Action::Acquire);
        assert_eq!(err.fault(), Some(Fault::Unavailable));
        let err = ConsulError::status(403, b"ACL not found").before(Action::Acquire);
        assert_eq!(err.fault(), Some(Fault::Rejected));
        let err = ConsulError::UnexpectedReply("x".into()).before(Action::Acquire);
        assert_eq!(err.fault(), Some(Fault::Unavailable));
        let err = ConsulError::NotConsul("x".into()).before(Action::Acquire);
        assert_eq!(err.fault(), Some(Fault::Rejected));
    }

    #[test]
    fn a_message_shows_no_session_and_ends() {
        let text = "failed session check for key \"x\", current session \
                    \"008f85bf-2ece-1234-76e4-744f25601f0a\" != \"3ccd2c6b-5913-81de-0967-922e4fa22705\"";
        let err = ConsulError::status(409, text.as_bytes()).to_string();
        assert!(!err.contains("008f85bf") && !err.contains("3ccd2c6b"), "{err}");
        let long = ConsulError::status(500, "\u{e9} ".repeat(1_000).as_bytes()).to_string();
        assert!(long.len() < TEXT_MAX + 50, "{}", long.len());
        assert!(ConsulError::status(500, b"\n").to_string().ends_with("nothing"));
    }
}
