//! The driver's errors: what each means for the lock.

use std::{borrow::Cow, error::Error, io::ErrorKind, sync::Arc, time::Duration};

use glock_core::{Action, BoxError, Fault, LockError, backend, toolkit::Explained};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// A failed statement, of which action is not known yet.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    source: BoxError,
}

impl Failure {
    pub(crate) fn new(fault: Fault, source: impl Into<BoxError>) -> Self {
        Self { fault, source: source.into() }
    }

    /// An error of a statement that was not sent, because there was no connection.
    pub(crate) fn not_sent(err: sqlx::Error) -> Self {
        let fault = match &err {
            // PgBouncer's code for a wrong password or an unknown setting, among other things.
            sqlx::Error::Database(database)
                if code(database.as_ref()) == "08P01"
                    && ["authentication", "startup parameter"]
                        .iter()
                        .any(|refused| database.message().contains(refused)) =>
            {
                Fault::Rejected
            }
            sqlx::Error::Database(database) => match class(&code(database.as_ref())) {
                "08" | "53" | "55" | "57" | "58" => Fault::Unavailable,
                _ => Fault::Rejected,
            },
            // A TLS handshake that failed: the certificate does not fit.
            sqlx::Error::Io(err) if err.kind() == ErrorKind::InvalidData => Fault::Rejected,
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => {
                Fault::Unavailable
            }
            // Settings, TLS, a closed pool, a server of another kind: waiting mends none of it.
            _ => Fault::Rejected,
        };
        Self::new(fault, err)
    }

    /// An error of a statement that was sent. No message repeats `secret`.
    pub(crate) fn sent(err: sqlx::Error, secret: &str) -> Self {
        let fault = classify(&err).fault;
        let advice = err.as_database_error().and_then(|database| advice(&code(database)));
        // PostgreSQL quotes the row that broke a constraint, and the owner token is in it.
        if !secret.is_empty() && format!("{err:?}").contains(secret) {
            let code = err.as_database_error().map(code).unwrap_or_default();
            let what = advice.unwrap_or("its details hold the owner token and are not shown");
            return Self::new(fault, format!("{what} ({code})"));
        }
        match advice {
            Some(what) => Self::new(fault, err).explained(what),
            None => Self::new(fault, err),
        }
    }

    /// No reply to a statement arrived in time.
    pub(crate) fn silent(limit: Duration) -> Self {
        let what = format!("no reply within {limit:?}; the connection counts as dead");
        Self::new(Fault::Unknown, what)
    }

    /// A reply that glock's own statements do not get.
    pub(crate) fn unexpected_reply(err: impl Into<BoxError>) -> Self {
        Self::new(Fault::Unknown, err)
    }

    /// The failure of a call in which an earlier request got no reply: that one may have been carried
    /// out, whatever the last reply was.
    pub(crate) fn after_lost_reply(self) -> Self {
        Self { fault: Fault::Unknown, ..self }
    }

    /// What it means, and its cause in a form that can be cloned.
    pub(crate) fn into_shared(self) -> (Fault, Arc<dyn Error + Send + Sync>) {
        (self.fault, self.source.into())
    }

    /// The same failure, with a text before its cause.
    pub(crate) fn explained(self, what: &'static str) -> Self {
        Self::new(self.fault, Explained::new(what, self.source))
    }

    /// PostgreSQL's code of the error.
    pub(crate) fn code(&self) -> Option<String> {
        let err = self.source.downcast_ref::<sqlx::Error>()?.as_database_error()?;
        err.code().map(Cow::into_owned)
    }

    pub(crate) fn during(self, action: Action) -> LockError {
        LockError::backend(backend::POSTGRES, action, self.fault, self.source)
    }
}

/// What an error of a statement means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ErrorClass {
    pub(crate) fault: Fault,
    pub(crate) next: NextStep,
    pub(crate) connection: ConnectionState,
    pub(crate) statement: StatementState,
}

impl ErrorClass {
    /// No reply at all.
    pub(crate) const SILENT: Self = Self {
        fault: Fault::Unknown,
        next: NextStep::Reconnect,
        connection: ConnectionState::Unfit,
        statement: StatementState::MayRun,
    };
}

/// What to do after an error of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Send it again on another connection.
    Reconnect,
    /// Send it again: another transaction came first, and this one had no effect.
    Repeat,
    /// Return the error.
    GiveUp,
}

/// Whether a connection can be used again after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    Usable,
    /// It has ended, and the others may have.
    Dead,
    /// It cannot be used, and the others may not be either: they are silent, or do not lead to the primary.
    Unfit,
}

/// Whether a statement may still take effect after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatementState {
    MayRun,
    Over,
}

/// What an error of a statement that was sent means.
pub(crate) fn classify(err: &sqlx::Error) -> ErrorClass {
    use ConnectionState::{Dead, Unfit, Usable};
    use Fault::{Rejected, Unavailable, Unknown};
    use NextStep::{GiveUp, Reconnect, Repeat};
    let (fault, next, connection) = match err {
        // A pooler that passes notifications to the wrong client confuses the driver.
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => (Unknown, Reconnect, Dead),
        sqlx::Error::Database(database) => {
            let code = code(database.as_ref());
            match &*code {
                // The server ended the connection: terminated, restarted, idle for too long.
                _ if is_fatal(database.as_ref()) => (Unknown, Reconnect, Dead),
                // Connected to a standby, or to a primary that has become one.
                "25006" => (Unavailable, Reconnect, Unfit),
                // The prepared statement is gone, or another client's: a pooler without support.
                "26000" | "42P05" => (Rejected, Reconnect, Dead),
                // The connection is in a transaction that is not glock's, so the statement had no effect.
                code if class(code) == "25" => (Unavailable, Reconnect, Dead),
                "40001" | "40P01" => (Unavailable, Repeat, Usable),
                // Cancelled, most likely before it had an effect; but that is not certain.
                "57014" => (Unknown, GiveUp, Usable),
                // Another transaction had the row locked for the whole `lock_timeout`.
                "55P03" => (Unavailable, GiveUp, Usable),
                code if matches!(class(code), "53" | "57" | "58") => (Unavailable, GiveUp, Usable),
                code if matches!(class(code), "08" | "40" | "XX") => (Unknown, GiveUp, Dead),
                // An error ends the statement without an effect.
                _ => (Rejected, GiveUp, Usable),
            }
        }
        _ => (Unknown, GiveUp, Dead),
    };
    let statement = match err {
        // The server reports it once the statement has ended.
        sqlx::Error::Database(_) => StatementState::Over,
        _ => StatementState::MayRun,
    };
    ErrorClass { fault, next, connection, statement }
}

fn is_fatal(err: &dyn sqlx::error::DatabaseError) -> bool {
    err.try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|err| matches!(err.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

pub(crate) fn code(err: &dyn sqlx::error::DatabaseError) -> Cow<'_, str> {
    err.code().unwrap_or_default()
}

/// Whether a connection was refused for its settings, as poolers do which share connections.
pub(crate) fn is_refused_by_pooler(err: &sqlx::Error) -> bool {
    err.as_database_error().is_some_and(|err| {
        let refused = ["startup parameter", "command-line options"];
        matches!(&*code(err), "08P01" | "0A000")
            && refused.iter().any(|refused| err.message().contains(refused))
    })
}

fn class(code: &str) -> &str {
    code.get(..2).unwrap_or_default()
}

pub(crate) const NO_TABLE: &str = "the table does not exist; call `PostgresLock::ensure_schema`, or have the statements of \
     `schema_sql` run by a role that may create tables";

/// What the reader of an error can do, where the server's text does not say it.
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "42P01" => NO_TABLE,
        "3F000" => "the schema that holds the table does not exist; create it",
        "42501" => {
            "the role lacks a permission; it needs USAGE on the schema, and SELECT, INSERT and \
             UPDATE on the table"
        }
        "42703" | "42804" | "42P10" => {
            "the table is not one that glock made; call `PostgresLock::ensure_schema` to learn \
             what differs, or name another with `LockConfig::with_table`"
        }
        "25006" => "the server is read-only; connect to the primary",
        "26000" | "42P05" => {
            "prepared statements do not survive the connection pooler; set PgBouncer's \
             `max_prepared_statements` (1.21 or later), or connect past it"
        }
        "55P03" => "another transaction holds a lock on the row or the table; end it",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_statement_that_was_not_sent_had_no_effect() {
        let io = || sqlx::Error::Io(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(Failure::not_sent(io()).fault, Fault::Unavailable);
        assert_eq!(Failure::not_sent(sqlx::Error::PoolTimedOut).fault, Fault::Unavailable);
        assert_eq!(Failure::not_sent(sqlx::Error::PoolClosed).fault, Fault::Rejected);
        assert_eq!(Failure::sent(io(), "").fault, Fault::Unknown);
        let certificate = sqlx::Error::Io(io::Error::from(io::ErrorKind::InvalidData));
        assert_eq!(Failure::not_sent(certificate).fault, Fault::Rejected);
    }

    #[test]
    fn a_lost_reply_outweighs_the_last_error() {
        let failure = Failure::not_sent(sqlx::Error::PoolTimedOut).after_lost_reply();
        assert_eq!(failure.during(Action::Acquire).fault(), Some(Fault::Unknown));
    }

    #[test]
    fn a_secret_in_the_driver_s_error_is_withheld() {
        let err = sqlx::Error::Protocol("row (CANARY) is bad".into());
        let failure = Failure::sent(err, "CANARY").during(Action::Acquire);
        let shown =
            format!("{failure} {failure:?} {:?}", failure.source().map(ToString::to_string));
        assert!(!shown.contains("CANARY"), "{shown}");
    }
}
