//! What the driver's errors mean for a lock.

use std::fmt;

use glock_core::{Action, BoxError, Fault, LockError, backend};
use zookeeper_client::Error;

/// What the driver's error means for the lock.
pub(crate) fn error(action: Action, err: Error) -> LockError {
    LockError::backend(backend::ZOOKEEPER, action, fault(&err), err)
}

/// The reply to a request was lost, and so was the reply to the look for its effect: whatever `err`
/// means for the look, the request may have been carried out.
pub(crate) fn ambiguous(action: Action, err: Error) -> LockError {
    LockError::backend(backend::ZOOKEEPER, action, Fault::Unknown, err)
}

pub(crate) fn fault(err: &Error) -> Fault {
    match err {
        Error::NoAuth
        | Error::InvalidAcl
        | Error::AuthFailed
        | Error::BadArguments(_)
        | Error::MarshallingError
        | Error::Unimplemented
        // The namespace is an ephemeral node.
        | Error::NoChildrenForEphemerals
        // The connect string's own path does not exist: all others are created.
        | Error::NoNode => Fault::Rejected,
        // It was not sent, or was refused; or its session ended, and its effect with it. Other locks use
        // up a quota, and may be released.
        Error::NoHosts
        | Error::QuotaExceeded
        | Error::Timeout
        | Error::NotReadOnly
        | Error::Throttled
        | Error::RuntimeInconsistent
        | Error::SessionExpired => Fault::Unavailable,
        _ => Fault::Unknown,
    }
}

/// Whether the servers will refuse the request again.
pub(crate) fn is_rejected(err: &Error) -> bool {
    fault(err) == Fault::Rejected
}

/// Whether the request may have been carried out. Another try may help.
pub(crate) fn is_unknown(err: &Error) -> bool {
    fault(err) == Fault::Unknown
}

/// Logs that a node could not be deleted for lack of permission: no caller waits for it, and it stays
/// until its session is over. `path` must not contain an owner token.
pub(crate) fn warn_undeletable(path: &str, err: &Error) {
    tracing::warn!(path, error = %err, "a node may not be deleted, and stays as long as its session");
}

/// No session could be opened in time, so nothing was sent. `failed` is the last failure.
pub(crate) fn unreachable(action: Action, failed: Option<Error>) -> LockError {
    // Credentials that are refused are refused again.
    let rejected = failed.as_ref().is_some_and(is_rejected);
    let fault = if rejected { Fault::Rejected } else { Fault::Unavailable };
    let source: BoxError = match failed {
        Some(err) => Box::new(NoSession(err)),
        None => "no server answered in time; check the addresses and the quorum".into(),
    };
    LockError::backend(backend::ZOOKEEPER, action, fault, source)
}

/// Why there is no session.
#[derive(Debug)]
struct NoSession(Error);

impl fmt::Display for NoSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no session could be opened; check the addresses and the quorum")
    }
}

impl std::error::Error for NoSession {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_connection_is_an_unknown_outcome_and_a_refusal_is_not() {
        assert_eq!(fault(&Error::ConnectionLoss), Fault::Unknown);
        assert_eq!(fault(&Error::ClientClosed), Fault::Unknown);
        assert_eq!(fault(&Error::NoAuth), Fault::Rejected);
        assert_eq!(fault(&Error::NoHosts), Fault::Unavailable);
        assert_eq!(fault(&Error::QuotaExceeded), Fault::Unavailable, "it passes");
        assert_eq!(fault(&Error::SessionExpired), Fault::Unavailable);
        assert!(
            unreachable(Action::Acquire, Some(Error::AuthFailed)).fault() == Some(Fault::Rejected)
        );
        assert!(unreachable(Action::Acquire, None).is_retryable());
    }
}
