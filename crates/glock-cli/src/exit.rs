//! `Exit` and `Failure`: how the program ends, and what it says then.

use std::process::ExitCode;

use glock_core::LockError;
use glock_url::UrlError;

use crate::names::presentable;

/// How the program ends. `run` ends with its command's status where that ran and the lock was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done,
    /// `doctor` has found something.
    Found,
    /// A bad argument, name, URL, duration or setting.
    Usage,
    /// A file that cannot be read or written.
    File,
    /// The store cannot be reached, or refuses.
    Store,
    /// Standard output is closed or full.
    Output,
    /// Another owner has the lock.
    NotAcquired,
    /// The lock was lost, or the lease is over.
    Lost,
    /// What the command ended with, or 128 and the number of the signal that ended it.
    Status(u8),
}

impl Exit {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Found => 1,
            Self::Usage => 64,
            Self::File => 66,
            Self::Store => 69,
            Self::Output => 74,
            Self::NotAcquired => 75,
            Self::Lost => 76,
            Self::Status(status) => status,
        }
    }

    /// What a shell says of a process that a signal has ended.
    pub(crate) fn of_signal(signal: i32) -> Self {
        Self::Status(u8::try_from(128 + signal).unwrap_or(u8::MAX))
    }

    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(self.number())
    }
}

/// What `--help` says of it.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done; `run`: the command's own status
  1    `doctor` has found something
  64   a bad argument, name, URL, duration or setting
  66   a file that cannot be read or written
  69   the store cannot be reached, or refuses
  74   standard output is full; or it is closed, and the command would only print
  75   another owner has the lock (not acquired)
  76   the lock was lost, or the lease is over
  126  `run`: the command cannot be started
  127  `run`: there is no such command
  128+N  signal N ended the command, or the wait";

/// Why the program ends, in one line.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    text: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: presentable(&text.into()) }
    }
}

impl From<UrlError> for Failure {
    fn from(err: UrlError) -> Self {
        match err {
            UrlError::Lock(err) => err.into(),
            UrlError::Unreadable { .. } => Self::new(Exit::File, chain(&err)),
            UrlError::FeatureMissing { scheme, feature } => Self::new(
                Exit::Usage,
                format!(
                    "this glock was built without {scheme} URLs; install it with `--features {feature}`"
                ),
            ),
            err => Self::new(Exit::Usage, err.to_string()),
        }
    }
}

impl From<LockError> for Failure {
    fn from(err: LockError) -> Self {
        let exit = match &err {
            LockError::Held { .. } | LockError::Timeout { .. } => Exit::NotAcquired,
            LockError::NotHeld { .. } => Exit::Lost,
            LockError::Invalid(_) => Exit::Usage,
            _ => Exit::Store,
        };
        Self::new(exit, chain(&err))
    }
}

/// An error and its causes in one line, each said once.
fn chain(err: &dyn std::error::Error) -> String {
    let mut said = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        let text = err.to_string();
        if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        cause = err.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use glock_core::{FencingToken, Holder, LockId};

    use super::*;

    /// A label is another client's choice.
    #[test]
    fn a_holder_s_label_gives_a_terminal_no_orders() {
        let holder = Holder::new("web\u{1b}[2J\nx", FencingToken::new(7));
        let held =
            LockError::Held { id: LockId::new("x").unwrap(), holder: Some(Box::new(holder)) };
        let text = Failure::from(held).to_string();
        assert!(text.contains("web") && !text.contains(char::is_control), "{text}");
    }

    #[test]
    fn a_store_that_was_left_out_says_how_to_have_it() {
        let failure =
            Failure::from(UrlError::FeatureMissing { scheme: "zk", feature: "zookeeper" });
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.to_string().contains("--features zookeeper"), "{failure}");
    }
}
