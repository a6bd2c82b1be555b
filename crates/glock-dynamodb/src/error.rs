//! The SDK's errors: what each means for the lock.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind},
};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use glock_core::{Action, BoxError, Fault, LockError, backend, toolkit::Explained};
use hyper_util::client::legacy;

/// A failed request, of which action is not known yet.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) next: NextStep,
    source: BoxError,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// What to do after a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Send it again after a pause: the service had no room for it, and did nothing.
    Repeat,
    /// Return the error; if the request is safe to repeat, the caller repeats it.
    GiveUp,
}

impl Failure {
    pub(crate) fn new(fault: Fault, next: NextStep, source: impl Into<BoxError>) -> Self {
        Self { fault, next, source: source.into() }
    }

    /// What the SDK's error means. What it repeats of a reply is left out: another holder's owner token
    /// may be in it.
    pub(crate) fn of<E>(err: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match err {
            SdkError::ServiceError(err) => {
                let status = err.raw().status().as_u16();
                let err = err.into_err();
                let code = err.code().unwrap_or_default();
                let (fault, next) = meaning(code, status);
                match advice(code, err.message().unwrap_or_default()) {
                    Some(what) => Self::new(fault, next, Explained::new(what, err)),
                    None => Self::new(fault, next, err),
                }
            }
            SdkError::DispatchFailure(failure) => {
                let broke = failure.is_timeout() || failure.is_io() || failure.as_other().is_some();
                let source = cause_of(SdkError::<E, _>::DispatchFailure(failure));
                let fault = match find::<legacy::Error>(&*source) {
                    Some(err) if err.is_connect() => not_connected(err),
                    Some(_) => Fault::Unknown,
                    None if broke => Fault::Unknown,
                    // It never became a request.
                    None => not_signed(&*source),
                };
                Self::new(fault, NextStep::GiveUp, source)
            }
            SdkError::ConstructionFailure(_) => {
                Self::new(Fault::Rejected, NextStep::GiveUp, cause_of(err))
            }
            SdkError::TimeoutError(_) => Self::new(Fault::Unknown, NextStep::GiveUp, cause_of(err)),
            _ => Self::unexpected_reply("the reply is not one of DynamoDB's"),
        }
    }

    /// The request got no reply in time.
    pub(crate) fn no_reply(limit: std::time::Duration) -> Self {
        let text = format!("no reply within {} ms", limit.as_millis());
        Self::new(Fault::Unknown, NextStep::GiveUp, text)
    }

    /// A request that was not sent, because its caller had left before.
    pub(crate) fn abandoned() -> Self {
        Self::new(Fault::Unavailable, NextStep::GiveUp, "its caller has left")
    }

    /// A reply that glock's own requests do not get.
    pub(crate) fn unexpected_reply(what: impl Into<BoxError>) -> Self {
        Self::new(Fault::Unknown, NextStep::GiveUp, what)
    }

    /// An item that glock has not written.
    pub(crate) fn foreign_item(why: &str) -> Self {
        let text = format!(
            "another program has written the item of this lock: {why}; delete the item, or set \
             another `LockConfig::with_namespace` or `with_table`"
        );
        Self::new(Fault::Rejected, NextStep::GiveUp, text)
    }

    /// Whether the service knows the user, who may not do this.
    pub(crate) fn is_access_denied(&self) -> bool {
        let mut cause: Option<&(dyn Error + 'static)> = Some(&*self.source);
        while let Some(err) = cause {
            if err.to_string().contains("AccessDenied") {
                return true;
            }
            cause = err.source();
        }
        false
    }

    pub(crate) fn during(self, action: Action) -> LockError {
        LockError::backend(backend::DYNAMODB, action, self.fault, self.source)
    }
}

/// What an error reply means.
fn meaning(code: &str, status: u16) -> (Fault, NextStep) {
    match code {
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "ThrottledException"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "TransactionConflictException"
        | "ReplicatedWriteConflictException" => (Fault::Unavailable, NextStep::Repeat),
        // Passes once the credentials are fetched again.
        "ExpiredTokenException" | "ExpiredToken" => (Fault::Unavailable, NextStep::GiveUp),
        // AWS: such a write may have been carried out.
        _ if status >= 500 => (Fault::Unknown, NextStep::GiveUp),
        _ if status == 429 => (Fault::Unavailable, NextStep::Repeat),
        _ => (Fault::Rejected, NextStep::GiveUp),
    }
}

/// What the reader of an error can do, where the service's text does not say it.
fn advice(code: &str, message: &str) -> Option<&'static str> {
    Some(match code {
        "ResourceNotFoundException" => {
            "there is no such table in this region and account; call `DynamoDbLock::create_table`, \
             or create it from `table_definition`"
        }
        "AccessDeniedException" => {
            "the identity lacks a permission; the README has the policy that it needs"
        }
        "UnrecognizedClientException" | "InvalidSignatureException" => {
            "the credentials are not those of this account, or have been revoked"
        }
        "ValidationException" if message.to_lowercase().contains("key") => {
            "the table's key is another one; it needs a partition key of type string with the name \
             in `LockConfig::lock_field`, and no sort key"
        }
        _ => return None,
    })
}

/// A connection that could not be made: nothing was sent.
fn not_connected(err: &legacy::Error) -> Fault {
    if is_handshake(err) { Fault::Rejected } else { Fault::Unavailable }
}

/// Whether a TLS handshake failed: the certificate does not fit, or the endpoint speaks no TLS.
fn is_handshake(err: &(dyn Error + 'static)) -> bool {
    let mut next = Some(err);
    while let Some(err) = next {
        next = match err.downcast_ref::<io::Error>() {
            Some(err) if err.kind() == ErrorKind::InvalidData => return true,
            // What it wraps is not among its causes.
            Some(err) => err.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => err.source(),
        };
    }
    false
}

/// A request that was not sent, because it could not be addressed or signed.
fn not_signed(err: &(dyn Error + 'static)) -> Fault {
    match find::<CredentialsError>(err) {
        // Whatever gives out credentials may come back.
        Some(
            CredentialsError::ProviderTimedOut(_)
            | CredentialsError::ProviderError(_)
            | CredentialsError::Unhandled(_),
        ) => Fault::Unavailable,
        _ => Fault::Rejected,
    }
}

fn cause_of<E>(err: SdkError<E, HttpResponse>) -> BoxError
where
    E: Error + Send + Sync + 'static,
{
    match err.into_source() {
        Ok(source) => source,
        Err(_) => "the SDK gives no reason".into(),
    }
}

/// The first error of type `T` among `err` and its causes.
fn find<'a, T: Error + 'static>(err: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(err);
    while let Some(err) = next {
        if let Some(found) = err.downcast_ref() {
            return Some(found);
        }
        next = err.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_had_no_room_for_did_not_happen() {
        for code in ["ProvisionedThroughputExceededException", "ThrottlingException"] {
            assert_eq!(meaning(code, 400), (Fault::Unavailable, NextStep::Repeat));
        }
        assert_eq!(meaning("", 429), (Fault::Unavailable, NextStep::Repeat));
    }

    #[test]
    fn what_fails_inside_the_service_may_have_happened() {
        for (code, status) in [("InternalServerError", 500), ("ServiceUnavailable", 503), ("", 502)]
        {
            assert_eq!(meaning(code, status), (Fault::Unknown, NextStep::GiveUp));
        }
    }

    #[test]
    fn what_passes_by_itself_does_not_end_a_wait() {
        assert_eq!(meaning("ExpiredTokenException", 400).0, Fault::Unavailable);
        let gone = CredentialsError::provider_timed_out(std::time::Duration::from_secs(1));
        assert_eq!(not_signed(&gone), Fault::Unavailable);
        let never = CredentialsError::not_loaded("none");
        assert_eq!(not_signed(&never), Fault::Rejected);
    }

    #[test]
    fn a_handshake_that_failed_is_found_in_what_wraps_it() {
        let tls = io::Error::new(ErrorKind::InvalidData, "bad certificate");
        assert!(is_handshake(&Explained::new("x", io::Error::other(tls))));
        assert!(!is_handshake(&io::Error::other("x")));
        assert!(!is_handshake(&io::Error::from(ErrorKind::ConnectionRefused)));
    }

    #[test]
    fn what_an_operator_has_to_mend_is_rejected_and_explained() {
        for code in ["ResourceNotFoundException", "AccessDeniedException"] {
            assert_eq!(meaning(code, 400), (Fault::Rejected, NextStep::GiveUp));
            assert!(advice(code, "").is_some());
        }
        let key = "The provided key element does not match the schema";
        assert!(advice("ValidationException", key).is_some_and(|what| what.contains("sort key")));
        assert!(advice("ValidationException", "x").is_none());
    }
}
