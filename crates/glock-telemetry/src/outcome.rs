//! `Outcome`: how a call to a lock ended, in one word.

use std::fmt;

use glock_core::{Fault, LockError};

/// How a call to a lock ended: the `outcome` of metrics and spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It did what it was asked for.
    Ok,
    /// Another owner holds the lock. That is what locks are for, and no error.
    Held,
    /// The lease was over before.
    NotHeld,
    /// The lock did not become free in time.
    Timeout,
    /// An argument can never work; nothing was sent.
    Invalid,
    /// The store failed.
    Error(Fault),
    /// The caller dropped the future before it had ended.
    Cancelled,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Held,
        Self::NotHeld,
        Self::Timeout,
        Self::Invalid,
        Self::Cancelled,
        Self::Error(Fault::Rejected),
        Self::Error(Fault::Unavailable),
        Self::Error(Fault::Unknown),
    ];

    /// How `result` counts.
    pub fn of<T>(result: &Result<T, LockError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(LockError::Held { .. }) => Self::Held,
            Err(LockError::NotHeld { .. }) => Self::NotHeld,
            Err(LockError::Timeout { .. }) => Self::Timeout,
            Err(LockError::Invalid { .. }) => Self::Invalid,
            // What is added to the errors later is a failure until it has a word of its own.
            Err(err) => Self::Error(err.fault().unwrap_or(Fault::Unknown)),
        }
    }

    /// The word, the same for all faults: their difference is the `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Held => "held",
            Self::NotHeld => "not_held",
            Self::Timeout => "timeout",
            Self::Invalid => "invalid",
            Self::Error(_) => "error",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the call did what it was asked for.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Ok)
    }

    /// What a failure of the store means, if it was one.
    pub const fn fault(self) -> Option<Fault> {
        match self {
            Self::Error(fault) => Some(fault),
            _ => None,
        }
    }

    /// Where it stands in [`ALL`](Self::ALL).
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::Held => 1,
            Self::NotHeld => 2,
            Self::Timeout => 3,
            Self::Invalid => 4,
            Self::Cancelled => 5,
            Self::Error(Fault::Rejected) => 6,
            Self::Error(Fault::Unavailable) => 7,
            Self::Error(_) => 8,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use glock_core::{Action, LockId};

    use super::*;

    #[test]
    fn every_outcome_stands_where_its_index_says() {
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), at, "{outcome:?}");
            assert_eq!(outcome.is_success(), at == 0);
            assert_eq!(outcome.fault().is_some(), outcome.as_str() == "error");
        }
    }

    #[test]
    fn each_error_has_its_outcome() {
        let id = LockId::new("x").unwrap();
        let of = |err| Outcome::of(&Err::<(), _>(err)).as_str();
        assert_eq!(of(LockError::Held { id: id.clone(), holder: None }), "held");
        assert_eq!(of(LockError::NotHeld { id: id.clone() }), "not_held");
        assert_eq!(of(LockError::Timeout { id, waited: Duration::ZERO }), "timeout");
        assert_eq!(of(LockError::invalid("ttl", "zero")), "invalid");
        for fault in [Fault::Rejected, Fault::Unavailable, Fault::Unknown] {
            let err = LockError::backend("redis", Action::Renew, fault, "boom");
            assert_eq!(Outcome::of(&Err::<(), _>(err)), Outcome::Error(fault));
        }
        assert_eq!(Outcome::of(&Ok(())), Outcome::Ok);
    }
}
