//! What the driver's errors mean for the lock.

use std::{error::Error as StdError, io};

use etcd_client::Error;
use glock_core::{Action, Fault, LockError, backend};
use tonic::{Code, Status};

/// An error of the driver as a [`LockError`].
pub(crate) fn failed(action: Action, err: Error) -> LockError {
    LockError::backend(backend::ETCD, action, fault(&err), err)
}

/// A reply that etcd does not send to this request.
pub(crate) fn unexpected_reply(action: Action) -> LockError {
    let why = "the server's reply is not one to this request; is there a proxy in between?";
    LockError::backend(backend::ETCD, action, Fault::Unknown, why)
}

/// No reply came from this member in its share of the time.
pub(crate) fn silent(action: Action) -> LockError {
    LockError::backend(backend::ETCD, action, Fault::Unknown, "the server does not reply")
}

/// What an error means that came instead of a reply.
pub(crate) fn fault(err: &Error) -> Fault {
    match err {
        Error::GRpcStatus(status) if !is_gone(err) => status_fault(status),
        Error::InvalidArgs(_)
        | Error::InvalidUri(_)
        | Error::InvalidMetadataValue(_)
        | Error::EndpointsNotManaged
        // The endpoint's settings, a certificate among them.
        | Error::TransportError(_) => Fault::Rejected,
        // No such lease: the next attempt uses another one.
        _ if is_gone(err) => Fault::Unavailable,
        Error::EndpointError(_) | Error::Internal(_) => Fault::Unavailable,
        _ => Fault::Unknown,
    }
}

fn status_fault(status: &Status) -> Fault {
    match status.code() {
        Code::InvalidArgument if status.message() == TOKEN_OLD => Fault::Unavailable,
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => Fault::Rejected,
        // Too many requests, or no space left: refused before it was proposed. With another message,
        // it is the driver's error for a connection that was closed.
        Code::ResourceExhausted if status.message().starts_with(ETCD) => Fault::Unavailable,
        Code::Unavailable if was_not_sent(status) => Fault::Unavailable,
        _ => Fault::Unknown,
    }
}

/// What the messages of a member begin with.
const ETCD: &str = "etcdserver: ";

/// The message of a member that knows of no leader, and so has proposed nothing.
const NO_LEADER: &str = "etcdserver: no leader";

/// The reply to a token that is older than the last change of the users' rights. The request had no
/// effect.
const TOKEN_OLD: &str = "etcdserver: revision of auth store is old";

/// Whether the client has to log in again.
pub(crate) fn is_token_old(err: &Error) -> bool {
    matches!(err, Error::GRpcStatus(status) if status.message() == TOKEN_OLD)
}

/// The reply to a wrong user or password.
const LOGIN_FAILED: &str = "etcdserver: authentication failed";

/// Whether a member refuses the user or the password that a connection logs in with.
pub(crate) fn is_login_refused(err: &Error) -> bool {
    let Error::GRpcStatus(status) = err else { return false };
    status.code() == Code::Unauthenticated || status.message().starts_with(LOGIN_FAILED)
}

/// The error for a login that was refused after an earlier one was not. The request had no effect, and
/// another connection may have other credentials.
pub(crate) fn login_refused(action: Action, err: Error) -> LockError {
    LockError::backend(backend::ETCD, action, Fault::Unavailable, err)
}

fn was_not_sent(status: &Status) -> bool {
    status.message() == NO_LEADER || could_not_connect(status)
}

/// Whether a failure to connect is among the causes, or in their texts where a cause is not public.
fn could_not_connect(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(err) = cause {
        let refused = err.downcast_ref::<io::Error>();
        if refused.is_some_and(|err| err.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        let text = err.to_string();
        if CONNECTING.iter().any(|words| text.starts_with(words)) {
            return true;
        }
        cause = err.source();
    }
    false
}

/// The names that hyper-util has for the steps of connecting.
const CONNECTING: &[&str] = &["tcp connect error", "dns error", "tcp open error"];

/// Whether the same request may succeed at once on another connection or at another member.
pub(crate) fn is_worth_repeating(err: &LockError) -> bool {
    err.fault().is_some_and(|fault| fault != Fault::Rejected) && !is_lease_gone(err)
}

/// Whether the request's lease does not exist: it ran out or was revoked. The request had no effect.
pub(crate) fn is_lease_gone(err: &LockError) -> bool {
    driver(err).is_some_and(is_gone)
}

/// Whether the driver's error is that of a lease that does not exist.
pub(crate) fn is_gone(err: &Error) -> bool {
    match err {
        Error::GRpcStatus(status) => status.code() == Code::NotFound,
        Error::LeaseKeepAliveError(_) => true,
        _ => false,
    }
}

fn driver(err: &LockError) -> Option<&Error> {
    let LockError::Backend { source, .. } = err else { return None };
    source.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: Code, text: &str) -> LockError {
        failed(Action::Acquire, Error::GRpcStatus(Status::new(code, text)))
    }

    #[test]
    fn a_refused_request_had_no_effect() {
        let fault = |code| of(code, "etcdserver: x").fault().unwrap();
        assert_eq!(fault(Code::PermissionDenied), Fault::Rejected);
        assert_eq!(fault(Code::InvalidArgument), Fault::Rejected);
        assert_eq!(fault(Code::ResourceExhausted), Fault::Unavailable);
        assert_eq!(of(Code::InvalidArgument, TOKEN_OLD).fault(), Some(Fault::Unavailable));
        assert_eq!(of(Code::Unavailable, NO_LEADER).fault(), Some(Fault::Unavailable));
    }

    #[test]
    fn a_request_that_was_cut_off_may_have_had_an_effect() {
        for text in
            ["etcdserver: request timed out", "etcdserver: leader changed", "transport error"]
        {
            assert_eq!(of(Code::Unavailable, text).fault(), Some(Fault::Unknown), "{text}");
        }
        assert_eq!(of(Code::Unknown, "h2 protocol error").fault(), Some(Fault::Unknown));
        let calm = of(Code::ResourceExhausted, "h2 protocol error: enhance your calm");
        assert_eq!(calm.fault(), Some(Fault::Unknown));
    }

    #[test]
    fn a_lease_that_is_gone_is_recognised() {
        assert!(is_lease_gone(&of(Code::NotFound, "etcdserver: requested lease not found")));
        let gone = Error::LeaseKeepAliveError("lease not found".into());
        let gone = failed(Action::Renew, gone);
        assert!(
            is_lease_gone(&gone) && !is_worth_repeating(&gone),
            "it will not be there the next time"
        );
        assert_eq!(gone.fault(), Some(Fault::Unavailable), "another lease may be");
        assert!(
            !is_lease_gone(&of(Code::Unavailable, "x"))
                && !is_lease_gone(&unexpected_reply(Action::Renew))
        );
    }
}
