//! What the driver's errors mean for the lock.

use std::{error::Error, io, sync::Arc};

use glock_core::{Action, Fault, LockError, backend};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// An error of the driver as a [`LockError`], with nothing secret in it.
pub(crate) fn backend_error(action: Action, fault: Fault, err: RedisError) -> LockError {
    LockError::backend(backend::REDIS, action, fault, without_arguments(err))
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
        // A certificate that does not match does not match the next time either.
        ErrorKind::Io if io_kind(err) == Some(io::ErrorKind::InvalidData) => Fault::Rejected,
        ErrorKind::Server(_) | ErrorKind::Extension => reply_fault(err),
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

/// What it means on a connection that repeats requests by itself: the error is about the last copy
/// alone, and the reply to an earlier one may have been lost.
pub(crate) fn repeated_fault(err: &RedisError) -> Fault {
    let moved =
        matches!(err.kind(), ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask));
    match request_fault(err) {
        Fault::Unavailable => Fault::Unknown,
        _ if moved => Fault::Unknown,
        fault => fault,
    }
}

/// What an error means that is the server's reply: nothing was changed.
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
        ErrorKind::Extension if SHORTAGES.contains(&err.code().unwrap_or_default()) => {
            Fault::Unavailable
        }
        _ => Fault::Rejected,
    }
}

/// The codes of a server that cannot do it now: another script runs, memory or disk is full, too few
/// replicas follow.
const SHORTAGES: &[&str] = &["BUSY", "OOM", "MISCONF", "NOREPLICAS"];

/// Whether a plain `ERR` is about the moment and not about the request.
fn passes(err: &RedisError) -> bool {
    let detail = err.detail().unwrap_or_default();
    detail.starts_with("max number of clients") || detail.contains("SCRIPT KILL")
}

/// Whether the connection must not be used again: it is broken, its server is silent or no longer the
/// primary.
pub(crate) fn is_broken(err: &RedisError) -> bool {
    err.is_io_error()
        || matches!(
            err.kind(),
            ErrorKind::Parse
                | ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}

/// Whether the same request may fare better on a new connection at once.
pub(crate) fn is_worth_repeating(err: &RedisError) -> bool {
    is_broken(err) && !err.is_timeout()
}

fn io_kind(err: &RedisError) -> Option<io::ErrorKind> {
    // The driver returns the pointer in which it shares the cause.
    let cause = err.source()?.downcast_ref::<Arc<dyn Error + Send + Sync>>()?;
    cause.downcast_ref::<io::Error>().map(io::Error::kind)
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
            "CROSSSLOT Keys in request don't hash to the same slot",
            "MOVED 866 127.0.0.1:7002",
        ] {
            assert_eq!(request_fault(&server(line)), Fault::Rejected, "{line}");
            assert_eq!(connect_fault(&server(line)), Fault::Rejected, "{line}");
            assert!(!is_worth_repeating(&server(line)), "{line}");
        }
        assert_eq!(connect_fault(&io(io::ErrorKind::InvalidData)), Fault::Rejected, "TLS");
    }

    #[test]
    fn a_server_that_is_not_ready_is_unavailable() {
        for line in [
            "LOADING Redis is loading the dataset in memory",
            "READONLY You can't write against a read only replica.",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
            "CLUSTERDOWN The cluster is down",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "OOM command not allowed when used memory > 'maxmemory'.",
            "MISCONF Errors writing to the AOF file: No space left on device",
            "NOREPLICAS Not enough good replicas to write.",
            "NOSCRIPT No matching script.",
            "ERR max number of clients reached",
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
    fn a_lost_reply_is_unknown_and_the_request_is_repeated() {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof};
        for kind in [BrokenPipe, ConnectionReset, UnexpectedEof] {
            assert_eq!(request_fault(&io(kind)), Fault::Unknown);
            assert!(is_broken(&io(kind)) && is_worth_repeating(&io(kind)), "{kind}");
        }
        assert_eq!(request_fault(&io(TimedOut)), Fault::Unknown);
        assert!(is_broken(&io(TimedOut)) && !is_worth_repeating(&io(TimedOut)), "time is up");
        assert!(is_worth_repeating(&server("READONLY You can't write")), "a new primary");
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
