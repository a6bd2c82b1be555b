//! The driver's errors: what each means for the lock, said in one place.

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use glock_core::{Action, BoxError, Fault, LockError, backend};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

/// A failed statement, before it is known what it was part of.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    source: BoxError,
}

impl Failure {
    pub(crate) fn new(fault: Fault, source: impl Into<BoxError>) -> Self {
        Self { fault, source: source.into() }
    }

    /// An error of a statement that never left: there was no connection to send it on.
    pub(crate) fn unsent(err: sqlx::Error) -> Self {
        let fault = match &err {
            // What PgBouncer says of a wrong password or an unknown setting, among other things.
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
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => {
                Fault::Unavailable
            }
            // Settings, TLS, a closed pool, a server of another kind: none of it heals by waiting.
            _ => Fault::Rejected,
        };
        Self::new(fault, err)
    }

    /// An error of a statement that was sent. `secret` is what no message may repeat.
    pub(crate) fn sent(err: sqlx::Error, secret: &str) -> Self {
        let fault = verdict(&err).fault;
        let advice = err.as_database_error().and_then(|database| advice(&code(database)));
        // PostgreSQL quotes the row that broke a constraint, and the owner token is in it.
        if !secret.is_empty() && format!("{err:?}").contains(secret) {
            let code = err.as_database_error().map(code).unwrap_or_default();
            let what = advice.unwrap_or("its details hold the owner token and are not shown");
            return Self::new(fault, Explained { what: format!("{what} ({code})"), source: None });
        }
        match advice {
            Some(what) => Self::new(fault, Explained { what: what.into(), source: Some(err) }),
            None => Self::new(fault, err),
        }
    }

    /// An answer that glock's own statements do not give.
    pub(crate) fn answer(err: impl Into<BoxError>) -> Self {
        Self::new(Fault::Unknown, err)
    }

    /// The failure of a call in which an earlier try went unanswered: whatever was said last, the
    /// earlier one may have happened.
    pub(crate) fn after_unanswered(self) -> Self {
        Self { fault: Fault::Unknown, ..self }
    }

    /// What it means, and the cause as something that many can be told of.
    pub(crate) fn shared(self) -> (Fault, Arc<dyn Error + Send + Sync>) {
        (self.fault, self.source.into())
    }

    pub(crate) fn during(self, action: Action) -> LockError {
        LockError::backend(backend::POSTGRES, action, self.fault, self.source)
    }
}

/// What a statement's error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) fault: Fault,
    pub(crate) remedy: Remedy,
    pub(crate) connection: Connection,
}

/// What to do about a statement's error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Another connection may do.
    Reconnect,
    /// Another transaction came first; this one has had no effect.
    Repeat,
    /// Nothing.
    GiveUp,
}

/// Whether the connection is of any more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    Good,
    Bad,
}

/// What an error of a statement that was sent means.
pub(crate) fn verdict(err: &sqlx::Error) -> Verdict {
    use Connection::{Bad, Good};
    use Fault::{Rejected, Unavailable, Unknown};
    use Remedy::{GiveUp, Reconnect, Repeat};
    let (fault, remedy, connection) = match err {
        // The driver is confused by notifications that a pooler passes to the wrong client.
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => (Unknown, Reconnect, Bad),
        sqlx::Error::Database(database) => {
            let code = code(database.as_ref());
            match &*code {
                // The server ended the connection: terminated, restarted, idle for too long.
                _ if is_fatal(database.as_ref()) => (Unknown, Reconnect, Bad),
                // Connected to a standby, or to a primary that has become one.
                "25006" => (Unavailable, Reconnect, Bad),
                // The prepared statement is gone, or another client's: a pooler without support.
                "26000" | "42P05" => (Rejected, Reconnect, Bad),
                "40001" | "40P01" => (Unavailable, Repeat, Good),
                // Cancelled; most likely before it did anything, but that is not ours to know.
                "57014" => (Unknown, GiveUp, Good),
                // Somebody else's transaction held the row for as long as we may wait.
                "55P03" => (Unavailable, GiveUp, Good),
                code if matches!(class(code), "53" | "57" | "58") => (Unavailable, GiveUp, Good),
                code if matches!(class(code), "08" | "40" | "XX") => (Unknown, GiveUp, Bad),
                // An error ends the statement without an effect.
                _ => (Rejected, GiveUp, Good),
            }
        }
        _ => (Unknown, GiveUp, Bad),
    };
    Verdict { fault, remedy, connection }
}

fn is_fatal(err: &dyn sqlx::error::DatabaseError) -> bool {
    err.try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|err| matches!(err.severity(), PgSeverity::Fatal | PgSeverity::Panic))
}

pub(crate) fn code(err: &dyn sqlx::error::DatabaseError) -> Cow<'_, str> {
    err.code().unwrap_or_default()
}

fn class(code: &str) -> &str {
    code.get(..2).unwrap_or_default()
}

/// What to do about an error whose own text does not say so.
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "42P01" => {
            "the table does not exist; call `PostgresLock::ensure_schema`, or have the statements \
             of `schema_sql` run by whoever may create tables"
        }
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

/// A driver's error with what to do about it, or in its stead.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) what: String,
    pub(crate) source: Option<sqlx::Error>,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Explained {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|err| err as _)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_was_not_sent_did_not_happen() {
        let io = || sqlx::Error::Io(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(Failure::unsent(io()).fault, Fault::Unavailable);
        assert_eq!(Failure::unsent(sqlx::Error::PoolTimedOut).fault, Fault::Unavailable);
        assert_eq!(Failure::unsent(sqlx::Error::PoolClosed).fault, Fault::Rejected);
        assert_eq!(Failure::sent(io(), "").fault, Fault::Unknown);
    }

    #[test]
    fn an_unanswered_try_outweighs_what_was_said_last() {
        let failure = Failure::unsent(sqlx::Error::PoolTimedOut).after_unanswered();
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
