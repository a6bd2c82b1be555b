//! The driver's errors: what each means for the lock.

use std::{error::Error, io, sync::Arc};

use glock_core::{Action, BoxError, Fault, LockError, backend, toolkit::Explained};
use mongodb::error::{Error as DriverError, ErrorKind};

/// A failed command, of which action is not known yet.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    /// Whether the server refused the credentials.
    pub(crate) is_refusal: bool,
    source: BoxError,
}

impl Failure {
    pub(crate) fn new(fault: Fault, source: impl Into<BoxError>) -> Self {
        Self { fault, is_refusal: false, source: source.into() }
    }

    /// An error of the driver. No message repeats `secret`.
    pub(crate) fn of_driver(err: DriverError, secret: &str) -> Self {
        let (fault, advice) = (fault(&err), advice(&err));
        let is_refusal = matches!(&*err.kind, ErrorKind::Authentication { .. });
        if !secret.is_empty() && format!("{err:?}").contains(secret) {
            let what = advice.unwrap_or("its details hold the owner token and are not shown");
            return Self::new(fault, what);
        }
        let failure = match advice {
            Some(what) => Self::new(fault, Explained::new(what, err)),
            None => Self::new(fault, err),
        };
        Self { is_refusal, ..failure }
    }

    /// An error within a reply, such as of the write concern.
    pub(crate) fn in_reply(code: i32, message: &str, secret: &str) -> Self {
        let fault = fault_of_code(code);
        let shown = if secret.is_empty() || !message.contains(secret) { message } else { "" };
        Self::new(fault, format!("the server replied with error {code}: {shown}"))
    }

    /// A reply that glock's own commands do not get.
    pub(crate) fn unexpected_reply() -> Self {
        let why = "the server's reply is not one that the command gives; is there a proxy between?";
        Self::new(Fault::Unknown, why)
    }

    /// What it means, and its cause in a form that can be cloned.
    pub(crate) fn into_shared(self) -> (Fault, Arc<dyn Error + Send + Sync>) {
        (self.fault, self.source.into())
    }

    /// The same failure, and its cause in a form that can be cloned.
    pub(crate) fn shared(self) -> (Self, Arc<dyn Error + Send + Sync>) {
        let cause: Arc<dyn Error + Send + Sync> = self.source.into();
        (Self { source: Arc::clone(&cause).into(), ..self }, cause)
    }

    /// The same failure, with a text before its cause.
    pub(crate) fn explained(self, what: &'static str) -> Self {
        Self::new(self.fault, Explained::new(what, self.source))
    }

    pub(crate) fn during(self, action: Action) -> LockError {
        LockError::backend(backend::MONGODB, action, self.fault, self.source)
    }
}

/// Whether the server has no change streams, because it is no member of a replica set or no MongoDB.
pub(crate) fn has_no_streams(err: &DriverError) -> bool {
    matches!(code(err), Some(59 | 40_324 | 40_415 | 40_573))
}

/// The code of the server's error, if it is one.
fn code(err: &DriverError) -> Option<i32> {
    match &*err.kind {
        ErrorKind::Command(err) => Some(err.code),
        _ => None,
    }
}

/// What an error of the driver means: it does not say whether the command was sent.
fn fault(err: &DriverError) -> Fault {
    match &*err.kind {
        ErrorKind::Command(err) => fault_of_code(err.code),
        ErrorKind::Authentication { .. }
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::IncompatibleServer { .. }
        | ErrorKind::Shutdown => Fault::Rejected,
        ErrorKind::ServerSelection { .. } | ErrorKind::DnsResolve { .. } => Fault::Unavailable,
        ErrorKind::Io(err) => match err.kind() {
            io::ErrorKind::ConnectionRefused => Fault::Unavailable,
            // A TLS handshake that failed: the certificate does not fit.
            io::ErrorKind::InvalidData => Fault::Rejected,
            _ => Fault::Unknown,
        },
        _ => Fault::Unknown,
    }
}

/// What a server's error means. <https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml>
fn fault_of_code(code: i32) -> Fault {
    match code {
        // A secondary, or too many requests: refused before anything was done. Another write came first, or
        // there is no room: a write of one document has all of its effect or none.
        10_058 | 10_107 | 13_435 | 462 | 112 | 246 | 11_000 | 146 | 14_031 => Fault::Unavailable,
        // BadValue, FailedToParse, Unauthorized, TypeMismatch, AuthenticationFailed, IllegalOperation,
        // NamespaceNotFound, CommandNotFound, NotImplemented, InvalidNamespace,
        // NamespaceExists, DocumentValidationFailure, CommandNotSupportedOnView, BSONObjectTooLarge,
        // APIVersionError, and codes of parsers from 10,000 on.
        2
        | 9
        | 13
        | 14
        | 18
        | 20
        | 26
        | 59
        | 238
        | 73
        | 48
        | 121
        | 166
        | 10_334
        | 322
        | 323
        | 16_000..=17_999
        | 28_000..=99_999 => Fault::Rejected,
        // Among them what stops a server half-way: MaxTimeMSExpired, WriteConcernTimeout,
        // ShutdownInProgress, InterruptedDueToReplStateChange.
        _ => Fault::Unknown,
    }
}

/// What the reader of an error can do, where the server's text does not say it.
fn advice(err: &DriverError) -> Option<&'static str> {
    if matches!(&*err.kind, ErrorKind::Authentication { .. }) {
        return Some("the server refuses the credentials");
    }
    Some(match code(err)? {
        13 => {
            "the user lacks a permission; it needs find, insert and update on the collection, and \
             changeStream for waiters to be woken"
        }
        121 => "the collection has a validator that refuses glock's documents; remove it",
        166 => "the name is a view's; name a collection with `LockConfig::with_collection`",
        11_000 => {
            "an index of the collection refuses the lock; glock needs no index but that of `_id`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind) -> Fault {
        fault(&DriverError::from(kind))
    }

    #[test]
    fn a_broken_connection_leaves_the_outcome_unknown() {
        assert_eq!(io(io::ErrorKind::UnexpectedEof), Fault::Unknown);
        assert_eq!(io(io::ErrorKind::ConnectionReset), Fault::Unknown);
        assert_eq!(io(io::ErrorKind::ConnectionRefused), Fault::Unavailable);
    }

    #[test]
    fn a_server_that_stops_half_way_leaves_the_outcome_unknown() {
        // MaxTimeMSExpired, WriteConcernFailed, ShutdownInProgress, PrimarySteppedDown,
        // InterruptedAtShutdown, InterruptedDueToReplStateChange, and what no one has seen yet.
        for code in [50, 64, 91, 189, 11_600, 11_602, 12_345] {
            assert_eq!(fault_of_code(code), Fault::Unknown, "{code}");
        }
    }

    #[test]
    fn what_passes_by_itself_is_not_rejected() {
        for code in [10_107, 13_435, 10_058, 112, 11_000, 462] {
            assert_eq!(fault_of_code(code), Fault::Unavailable, "{code}");
        }
    }

    #[test]
    fn a_secret_in_the_server_s_text_is_withheld() {
        for err in [
            Failure::in_reply(64, "no CANARY", "CANARY"),
            Failure::of_driver(
                DriverError::from(io::Error::other("row (CANARY) is bad")),
                "CANARY",
            ),
        ] {
            let err = err.during(Action::Acquire);
            let shown = format!("{err} {err:?} {:?}", err.source().map(ToString::to_string));
            assert!(!shown.contains("CANARY"), "{shown}");
        }
    }
}
