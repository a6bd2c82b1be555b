//! `LockError` and `Fault`: one variant for each thing that a caller does differently.

use std::{borrow::Cow, convert::Infallible, fmt, time::Duration};

use crate::{Action, Holder, Invalid, LockId};

/// The driver's own error, reached through [`std::error::Error::source`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a lock could not be acquired, renewed, released or looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another owner holds the lock. Wait, try again later, or skip the work.
    #[error("lock `{id}` is held by {}", shown(.holder.as_deref()))]
    Held {
        /// The lock.
        id: LockId,
        /// Who has it and for how long, where the store's reply has it.
        holder: Option<Box<Holder>>,
    },

    /// The lease is over: it ran out, was released, or is another lock's. Stop the work that it
    /// protected.
    #[error("lock `{id}` is not held by this lease; stop the work that it protected")]
    NotHeld {
        /// The lock.
        id: LockId,
    },

    /// The lock did not become free in time.
    #[error("lock `{id}` was still not free after {} ms; try again later or wait longer", .waited.as_millis())]
    Timeout {
        /// The lock.
        id: LockId,
        /// How long was waited.
        waited: Duration,
    },

    /// An argument or a setting can never work. Fix the program; no request was sent.
    #[error(transparent)]
    Invalid(#[from] Invalid),

    /// The store failed. The [`Fault`] says what that means for the lock.
    #[error("could not {} on {backend}: {fault}", .action.phrase())]
    Backend {
        /// The store, as [`Lock::backend`](crate::Lock::backend) names it.
        backend: &'static str,
        /// What was being done.
        action: Action,
        /// What the failure means for the lock.
        fault: Fault,
        /// The driver's error.
        source: BoxError,
    },
}

impl LockError {
    /// A [`LockError::Invalid`].
    pub fn invalid(what: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Invalid(Invalid::new(what, reason))
    }

    /// A [`LockError::Backend`].
    pub fn backend(
        backend: &'static str,
        action: Action,
        fault: Fault,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Backend { backend, action, fault, source: source.into() }
    }

    /// The fault, if the store failed.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Backend { fault, .. } => Some(*fault),
            _ => None,
        }
    }

    /// Whether the same call may succeed later: the lock is held, or the store was out of reach.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Held { .. } | Self::Timeout { .. } => true,
            Self::Backend { fault, .. } => *fault != Fault::Rejected,
            _ => false,
        }
    }
}

/// Lets [`LockExt`](crate::LockExt) take a `LockId` wherever it takes something that may become one.
impl From<Infallible> for LockError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// What a store's failure means for the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The store refused, and will again: credentials, permissions, schema. Nothing changed.
    Rejected,
    /// The store could not be reached, or was not ready. Nothing changed.
    Unavailable,
    /// The request was sent and no reply came: it may have happened. An acquire of that kind is
    /// undone in the background.
    Unknown,
}

impl Fault {
    /// A stable name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected => {
                "the store refused and will again; check credentials, permissions and schema"
            }
            Self::Unavailable => "the store is out of reach and nothing was changed; try again",
            Self::Unknown => "no answer came, so it may have happened; try again",
        })
    }
}

fn shown(holder: Option<&Holder>) -> String {
    holder.map_or_else(|| "another owner".into(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;
    use crate::FencingToken;

    #[test]
    fn the_cause_is_said_once_in_source() {
        let err = LockError::backend("redis", Action::Renew, Fault::Unknown, "boom");
        assert_eq!(
            err.to_string(),
            "could not renew the lock on redis: no answer came, so it may have happened; try again"
        );
        assert_eq!(err.source().unwrap().to_string(), "boom");
        assert_eq!(err.fault(), Some(Fault::Unknown));
    }

    #[test]
    fn held_names_the_holder_where_the_store_s_reply_has_it() {
        let id = LockId::new("x").unwrap();
        let holder = Holder::new("web-3:17", FencingToken::new(7))
            .with_remaining(Some(Duration::from_millis(1500)));
        let err = LockError::Held { id: id.clone(), holder: Some(Box::new(holder)) };
        assert_eq!(err.to_string(), "lock `x` is held by web-3:17 (token 7) for another 1500 ms");
        let err = LockError::Held { id, holder: None };
        assert_eq!(err.to_string(), "lock `x` is held by another owner");
    }

    #[test]
    fn only_what_may_pass_is_retryable() {
        let fault = |fault| LockError::backend("redis", Action::Acquire, fault, "x").is_retryable();
        assert!(fault(Fault::Unavailable) && fault(Fault::Unknown) && !fault(Fault::Rejected));
        assert!(!LockError::invalid("ttl", "zero").is_retryable());
    }

    #[test]
    fn an_error_stays_small() {
        assert!(size_of::<LockError>() <= 48, "{}", size_of::<LockError>());
    }
}
