//! What the driver's errors mean for the lock, in one place.

use std::io;

use glock_core::{Action, Fault, LockError, backend};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// An error of the driver as a [`LockError`], with nothing secret in it.
pub(crate) fn failed(action: Action, fault: Fault, err: RedisError) -> LockError {
    LockError::backend(backend::REDIS, action, fault, without_arguments(err))
}

/// An answer that no script of ours gives: something in between changed it.
pub(crate) fn garbled(action: Action) -> LockError {
    let why = "the server's answer is not one that the script gives; is there a proxy in between?";
    LockError::backend(backend::REDIS, action, Fault::Unknown, why)
}

/// A second request was refused while the first may still be on its way.
pub(crate) fn overtaken(action: Action) -> LockError {
    let why = "the connection broke, and somebody else had the lock when it was asked for again";
    LockError::backend(backend::REDIS, action, Fault::Unknown, why)
}

/// What a failure to connect means: nothing was sent.
pub(crate) fn connecting(err: &RedisError) -> Fault {
    match err.kind() {
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::RESP3NotSupported
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::EmptySentinelList => Fault::Rejected,
        // A certificate that does not match does not match the next time either.
        ErrorKind::Io if io_kind(err) == Some(io::ErrorKind::InvalidData) => Fault::Rejected,
        ErrorKind::Server(_) | ErrorKind::Extension => answered(err),
        _ => Fault::Unavailable,
    }
}

/// What an error means that came instead of an answer.
pub(crate) fn asking(err: &RedisError) -> Fault {
    match err.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => answered(err),
        ErrorKind::AuthenticationFailed
        | ErrorKind::InvalidClientConfig
        | ErrorKind::RESP3NotSupported => Fault::Rejected,
        // A connection that the application manages connects for itself.
        ErrorKind::Io if err.is_connection_refusal() => Fault::Unavailable,
        ErrorKind::ClusterConnectionNotFound => Fault::Unavailable,
        _ => Fault::Unknown,
    }
}

/// What an error means that the server answered: it changed nothing.
fn answered(err: &RedisError) -> Fault {
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

/// The codes of a server that cannot do it now: another script runs, memory or disk is full, too
/// few replicas follow.
const SHORTAGES: &[&str] = &["BUSY", "OOM", "MISCONF", "NOREPLICAS"];

/// Whether a plain `ERR` is about the moment and not about the request.
fn passes(err: &RedisError) -> bool {
    let detail = err.detail().unwrap_or_default();
    detail.starts_with("max number of clients") || detail.contains("SCRIPT KILL")
}

/// Whether the connection must not be used again: it is broken, does not answer, or leads to a
/// server that is no longer the primary.
pub(crate) fn is_over(err: &RedisError) -> bool {
    err.is_io_error()
        || matches!(
            err.kind(),
            ErrorKind::Parse
                | ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        )
}

/// Whether the same request may fare better on a new connection at once.
pub(crate) fn is_worth_repeating(err: &RedisError) -> bool {
    is_over(err) && !err.is_timeout()
}

fn io_kind(err: &RedisError) -> Option<io::ErrorKind> {
    std::error::Error::source(err)?.downcast_ref::<io::Error>().map(io::Error::kind)
}

/// What a server puts in front of the arguments of a command that it does not know. Among them may
/// be the password (`HELLO`) or the owner token (`EVALSHA`).
const ARGUMENTS: &str = ", with args beginning with";

fn without_arguments(err: RedisError) -> RedisError {
    let Some((known, _)) = err.detail().and_then(|detail| detail.split_once(ARGUMENTS)) else {
        return err;
    };
    RedisError::from((err.kind(), "the server refused", known.to_owned()))
}
