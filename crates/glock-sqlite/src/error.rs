//! The driver's errors: what each means for the lock.

use std::{error::Error, io, sync::Arc};

use glock_core::{Action, BoxError, Fault, LockError, backend, toolkit::Explained};

/// A failed statement, of which action is not known yet.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) next: NextStep,
    source: BoxError,
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Send it again: another process was writing, and this statement had no effect.
    Repeat,
    /// Return the error. The connection can be used again.
    Keep,
    /// Return the error, and open the file again for the next statement.
    Reopen,
}

impl Failure {
    pub(crate) fn new(fault: Fault, source: impl Into<BoxError>) -> Self {
        Self { fault, next: NextStep::Reopen, source: source.into() }
    }

    /// An error of a statement, or of opening the file.
    pub(crate) fn of(err: sqlx::Error) -> Self {
        let (fault, next, advice) = classify(&err);
        let source: BoxError = match advice {
            Some(what) => Explained::new(what, err).into(),
            None => err.into(),
        };
        Self { fault, next, source }
    }

    /// The file at the path is not the one that the statement went to, so that had no effect that counts.
    pub(crate) fn replaced() -> Self {
        let what = "the file was deleted or replaced while it was in use";
        Self { next: NextStep::Repeat, ..Self::new(Fault::Unavailable, what) }
    }

    /// Another machine has begun to use the file, and has freed what it takes for locks of before its start.
    pub(crate) fn used_elsewhere() -> Self {
        let what = "another machine or virtual machine uses the file; give each a file of its own, or use \
                    a store that has a server";
        Self::new(Fault::Rejected, what)
    }

    /// Rows that glock's own statements do not get.
    pub(crate) fn unexpected_reply(err: impl Into<BoxError>) -> Self {
        Self::new(Fault::Unknown, err)
    }

    /// The file cannot be looked at.
    pub(crate) fn io(err: io::Error) -> Self {
        Self::new(Fault::Unavailable, err)
    }

    /// What it means, and its cause in a form that can be cloned.
    pub(crate) fn into_shared(self) -> (Fault, Arc<dyn Error + Send + Sync>) {
        (self.fault, self.source.into())
    }

    pub(crate) fn during(self, action: Action) -> LockError {
        LockError::backend(backend::SQLITE, action, self.fault, self.source)
    }
}

/// SQLite's primary result codes.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const NO_MEMORY: i32 = 7;
    pub(super) const READ_ONLY: i32 = 8;
    pub(super) const IO_ERROR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANNOT_OPEN: i32 = 14;
    pub(super) const NOT_A_DATABASE: i32 = 26;
    /// The file was moved or deleted: `READ_ONLY`, extended.
    pub(super) const MOVED: i32 = READ_ONLY | 4 << 8;
    /// The memory that processes share cannot be had: `IO_ERROR`, extended. It comes before any write.
    pub(super) const SHARED_MEMORY: [i32; 4] =
        [IO_ERROR | 18 << 8, IO_ERROR | 19 << 8, IO_ERROR | 20 << 8, IO_ERROR | 21 << 8];
}

const NOT_A_DATABASE: &str =
    "the file is no SQLite database, or is damaged; name another one, or move it away";

/// What an error means, what is next, and what its reader can do where SQLite's text does not say it.
fn classify(err: &sqlx::Error) -> (Fault, NextStep, Option<&'static str>) {
    use Fault::{Rejected, Unavailable, Unknown};
    use NextStep::{Keep, Reopen, Repeat};
    let sqlx::Error::Database(database) = err else {
        // The connection's thread ended, or a row was not as expected.
        return (Unknown, Reopen, None);
    };
    let extended = database.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    match extended & 0xff {
        code::BUSY | code::LOCKED => {
            (Unavailable, Repeat, Some("other processes kept writing to the file"))
        }
        code::NO_MEMORY => (Unavailable, Keep, None),
        code::READ_ONLY if extended == code::MOVED => (Unavailable, Reopen, None),
        code::READ_ONLY => {
            (Rejected, Reopen, Some("the file or its directory may not be written to"))
        }
        code::IO_ERROR if code::SHARED_MEMORY.contains(&extended) => (
            Unavailable,
            Reopen,
            Some("SQLite cannot share memory beside the file; make room on the disk"),
        ),
        // A commit may be on the disk all the same.
        code::IO_ERROR => (Unknown, Reopen, None),
        code::CORRUPT | code::NOT_A_DATABASE => (Rejected, Reopen, Some(NOT_A_DATABASE)),
        // The statement was rolled back.
        code::FULL => (Unavailable, Keep, Some("the disk is full; make room on it")),
        // The place was checked, so that this may pass: too many open files, for example.
        code::CANNOT_OPEN => (Unavailable, Reopen, None),
        // An error of any other kind ends a statement without an effect.
        _ => (Rejected, Reopen, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_error_of_a_statement_may_have_happened() {
        for err in [sqlx::Error::WorkerCrashed, sqlx::Error::RowNotFound] {
            assert_eq!(Failure::of(err).fault, Fault::Unknown);
        }
    }

    #[test]
    fn a_file_that_was_replaced_is_opened_again() {
        let failure = Failure::replaced();
        assert_eq!((failure.fault, failure.next), (Fault::Unavailable, NextStep::Repeat));
        assert_eq!(failure.during(Action::Renew).fault(), Some(Fault::Unavailable));
    }
}
