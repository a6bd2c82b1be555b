//! What the driver's errors mean for the lock.

use std::{error::Error, io, sync::Arc};

use glock_core::{Action, Fault, LockError, backend};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// An error of the driver as a [`LockError`], with nothing secret in it.
pub(crate) fn backend_error(action: Action, fault: Fault, err: RedisError) -> LockError {
    LockError::backend(backend::REDIS, action, fault, without_arguments(err))
}

/// Whether a request failed because some of its keys have moved to another node, and others not yet.
pub(crate) fn is_about_keys_that_move(err: &LockError) -> bool {
    let err = err.source().and_then(|source| source.downcast_ref::<RedisError>());
    err.is_some_and(|err| err.kind() == ErrorKind::Server(ServerErrorKind::TryAgain))
}

/// A reply that none of the scripts gives: something between client and server changed it.
pub(crate) fn unexpected_reply(action: Action) -> LockError {
    let why = "the server's reply is not one that the script gives; is there a proxy in between?";
    LockError::backend(backend::REDIS, action, Fault::Unknown, why)
}

/// What a failure to connect means: no request was sent.
pub(crate) fn connect_fault(err: &RedisError) -> Fault {
    match err.kind() {
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::RESP3NotSupported
        | ErrorKind::EmptySentinelList => Fault::Rejected,
        // It does not fit the next time either.
        ErrorKind::Io if is_about_certificates(err) => Fault::Rejected,
        ErrorKind::Server(_) | ErrorKind::Extension if reply_fault(err) == Fault::Rejected => {
            Fault::Rejected
        }
        // Among them: sentinels that know no primary, which is so while they elect one.
        _ => Fault::Unavailable,
    }
}

/// What an error means that came instead of a reply.
pub(crate) fn request_fault(err: &RedisError) -> Fault {
    match err.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => reply_fault(err),
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::RESP3NotSupported => Fault::Rejected,
        // A connection that the application manages connects for itself.
        ErrorKind::Io if err.is_connection_refusal() => Fault::Unavailable,
        ErrorKind::ClusterConnectionNotFound => Fault::Unavailable,
        _ => Fault::Unknown,
    }
}

/// What it means on a connection that may repeat requests by itself: the error is about the last copy
/// alone, and an earlier one may have had its effect though its reply was lost. Such a connection follows
/// slots that move, so that it did not follow one for once says nothing about the next time.
pub(crate) fn repeated_fault(err: &RedisError) -> Fault {
    match request_fault(err) {
        Fault::Unavailable => Fault::Unknown,
        _ if err.redirect_node().is_some() => Fault::Unknown,
        fault => fault,
    }
}

/// What an error means that is the server's reply.
fn reply_fault(err: &RedisError) -> Fault {
    match err.kind() {
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::TryAgain
            // A server that forgets the script as soon as it is sent is a server under pressure.
            | ServerErrorKind::NoScript,
        ) => Fault::Unavailable,
        ErrorKind::Server(ServerErrorKind::ResponseError) if passes(err) => Fault::Unavailable,
        ErrorKind::Server(_) => Fault::Rejected,
        _ => match err.code().unwrap_or_default() {
            code if SHORTAGES.contains(&code) => Fault::Unavailable,
            code if REFUSALS.contains(&code) => Fault::Rejected,
            // Not the server's: a proxy's, say, that lost the server after it had passed the request on.
            _ => Fault::Unknown,
        },
    }
}

/// The codes of a server that cannot do it now: another script runs, memory or disk is full, too few
/// replicas follow.
const SHORTAGES: &[&str] = &["BUSY", "OOM", "MISCONF", "NOREPLICAS"];

/// The codes of a server that will not do it.
const REFUSALS: &[&str] = &["NOAUTH", "WRONGPASS", "DENIED", "NOPROTO", "WRONGTYPE"];

/// Whether a plain `ERR` is about the moment and not about the request.
fn passes(err: &RedisError) -> bool {
    let detail = err.detail().unwrap_or_default();
    detail.starts_with("max number of clients")
        || detail.contains("SCRIPT KILL")
        || code_within_a_script(detail)
            .is_some_and(|code| code == "READONLY" || SHORTAGES.contains(&code))
}

/// Redis 6 wraps what a command of a script fails with: `Error running script (call to f_..):
/// @user_script:17: @user_script: 17: -READONLY You can't write ..`.
fn code_within_a_script(detail: &str) -> Option<&str> {
    let wrapped = detail.strip_prefix("Error running script")?;
    wrapped.split_once(": -")?.1.split(' ').next()
}

/// Whether the connection must not be used again: it is broken, its server is silent or no longer the
/// primary, or no longer takes it to be logged in.
pub(crate) fn is_broken(err: &RedisError) -> bool {
    let detail = err.detail().unwrap_or_default();
    err.is_io_error()
        || err.code() == Some("NOAUTH")
        || code_within_a_script(detail) == Some("READONLY")
        || matches!(
            err.kind(),
            ErrorKind::Parse
                | ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}

/// Whether another node of a cluster may serve the slots of the one that replied this.
pub(crate) fn is_out_of_service(err: &RedisError) -> bool {
    matches!(
        err.kind(),
        ErrorKind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::BusyLoading)
    )
}

/// Whether the credentials were refused.
pub(crate) fn is_about_credentials(err: &RedisError) -> bool {
    err.kind() == ErrorKind::AuthenticationFailed
        || matches!(err.code(), Some("NOAUTH" | "WRONGPASS"))
}

/// Whether TLS refused the peer.
fn is_about_certificates(err: &RedisError) -> bool {
    // The driver returns the pointer in which it shares the cause.
    let shared = err.source().and_then(|err| err.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let cause = shared.and_then(|cause| cause.downcast_ref::<io::Error>());
    #[cfg(feature = "tls")]
    let refused = cause.and_then(io::Error::get_ref).is_some_and(|cause| {
        matches!(
            cause.downcast_ref::<rustls::Error>(),
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
        )
    });
    #[cfg(not(feature = "tls"))]
    let refused = cause.is_some_and(|cause| cause.kind() == io::ErrorKind::InvalidData);
    refused
}

/// The text before the arguments of a command that a server does not know. Among them may be the
/// password (`HELLO`) or the owner token (`EVALSHA`).
const ARGUMENTS: &str = ", with args beginning with";

fn without_arguments(err: RedisError) -> RedisError {
    let Some((known, _)) = err.detail().and_then(|detail| detail.split_once(ARGUMENTS)) else {
        return err;
    };
    RedisError::from((err.kind(), "the server refused", known.to_owned()))
}

#[cfg(test)]
mod tests {
    use redis::parse_redis_value;

    use super::*;

    /// An error as the driver parses it.
    fn server(line: &str) -> RedisError {
        let value = parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    fn io(kind: io::ErrorKind) -> RedisError {
        io::Error::new(kind, "made up").into()
    }

    #[test]
    fn a_request_that_will_be_refused_again_is_rejected() {
        for line in [
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOAUTH Authentication required.",
            "NOPERM this user has no permissions to run the 'evalsha' command",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "ERR unknown command 'EVALSHA', with args beginning with: 'x'",
            "ERR the fencing counter is too large to count on; delete n:{x}:fence",
            "ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -NOPERM no right",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "MOVED 866 127.0.0.1:7002",
            "DENIED Redis is running in protected mode because protected mode is enabled",
            "NOPROTO unsupported protocol version",
        ] {
            assert_eq!(request_fault(&server(line)), Fault::Rejected, "{line}");
            assert_eq!(connect_fault(&server(line)), Fault::Rejected, "{line}");
            assert!(!is_out_of_service(&server(line)), "{line}");
        }
    }

    #[test]
    fn a_server_that_is_not_ready_is_unavailable() {
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica. script: 1, on @user_script:17.",
            "ERR Error running script (call to f_1): @user_script:17: @user_script: 17: \
             -READONLY You can't write against a read only replica.",
            "ERR Error running script (call to f_1): @user_script:17: @user_script: 17: \
             -OOM command not allowed when used memory > 'maxmemory'.",
            "ERR Error running script (call to f_1): @user_script:17: @user_script: 17: \
             -MISCONF Redis is configured to save RDB snapshots, but it is unable to persist on disk.",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN The cluster is down",
            "CLUSTERDOWN The cluster is down and only accepts read commands",
            "CLUSTERDOWN Hash slot not served",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "ERR Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Errors writing to the AOF file: No space left on device",
            "NOREPLICAS Not enough good replicas to write.",
            "NOSCRIPT No matching script.",
            "ERR max number of clients reached",
            "ERR max number of clients + cluster connections reached",
            "ERR Error running script: Script killed by user with SCRIPT KILL...",
        ] {
            assert_eq!(request_fault(&server(line)), Fault::Unavailable, "{line}");
            assert_eq!(repeated_fault(&server(line)), Fault::Unknown, "{line}");
            assert_eq!(connect_fault(&server(line)), Fault::Unavailable, "{line}");
        }
        assert_eq!(connect_fault(&io(io::ErrorKind::ConnectionRefused)), Fault::Unavailable);
        assert_eq!(repeated_fault(&io(io::ErrorKind::ConnectionRefused)), Fault::Unknown);
        assert_eq!(repeated_fault(&server("MOVED 866 127.0.0.1:7002")), Fault::Unknown);
        assert_eq!(repeated_fault(&server("NOPERM no permissions")), Fault::Rejected);
        assert_eq!(connect_fault(&io(io::ErrorKind::TimedOut)), Fault::Unavailable);
    }

    #[test]
    fn a_lost_reply_is_unknown_and_its_connection_broken() {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof};
        for kind in [BrokenPipe, ConnectionReset, UnexpectedEof] {
            assert_eq!(request_fault(&io(kind)), Fault::Unknown);
            assert!(is_broken(&io(kind)), "{kind}");
        }
        assert_eq!(request_fault(&io(TimedOut)), Fault::Unknown);
        assert!(is_broken(&io(TimedOut)));
        assert!(is_broken(&server("READONLY You can't write")), "a new primary");
        assert!(is_broken(&server("NOAUTH Authentication required.")), "it logs in again");
    }

    /// Proxies have texts of their own. Such a request may have been passed on.
    #[test]
    fn a_code_that_no_server_has_is_unknown_and_not_a_refusal() {
        for line in ["upstream failure", "no healthy upstream", "TIMEOUT the server is slow"] {
            assert_eq!(request_fault(&server(line)), Fault::Unknown, "{line}");
            assert_eq!(connect_fault(&server(line)), Fault::Unavailable, "{line}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_certificate_that_does_not_fit_is_rejected_and_a_garbled_record_is_not() {
        let refused = |err: rustls::Error| {
            connect_fault(&io::Error::new(io::ErrorKind::InvalidData, err).into())
        };
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert_eq!(refused(unknown), Fault::Rejected);
        let garbled = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(refused(garbled), Fault::Unavailable);
    }

    #[test]
    fn arguments_that_a_server_repeats_are_cut_off() {
        let err = server(
            "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'u' 'CANARY'",
        );
        let fault = connect_fault(&err);
        let shown = format!("{:?}", backend_error(Action::Acquire, fault, err));
        assert!(!shown.contains("CANARY"), "{shown}");
        assert!(shown.contains("unknown command 'HELLO'"), "{shown}");
    }
}
