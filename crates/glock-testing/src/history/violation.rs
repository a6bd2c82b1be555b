//! What a history shows that no lock may do, in words for a person.

use std::fmt;
use std::time::Duration;

/// One hold, as a violation names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// Who held.
    pub who: String,
    /// The fencing token of the hold.
    pub token: u64,
    /// From when on it was surely held.
    pub from: Duration,
    /// Until when it was surely held.
    pub to: Duration,
}

/// A rule that a history breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// Two held one lock at once.
    Overlap {
        /// The lock's id.
        id: String,
        /// The one whose hold began first.
        first: Party,
        /// The other one.
        second: Party,
        /// For how long both held it; zero where one held it only for a moment amid the other's hold.
        by: Duration,
    },
    /// Two holds of one lock have the same token.
    TokenRepeated {
        /// The lock's id.
        id: String,
        /// The hold that was granted first.
        first: Party,
        /// The other one.
        second: Party,
    },
    /// A later hold has a smaller token.
    TokenFell {
        /// The lock's id.
        id: String,
        /// The hold that had been granted before the other was asked for.
        earlier: Party,
        /// The hold with the smaller token.
        later: Party,
    },
    /// A grant came back when its own deadline had passed, and was not refused.
    GrantedLate {
        /// The lock's id.
        id: String,
        /// The hold.
        hold: Party,
        /// How long after its deadline.
        by: Duration,
    },
    /// A renewal was agreed to when the hold was over.
    RenewedLate {
        /// The lock's id.
        id: String,
        /// The hold.
        hold: Party,
        /// How long after its end.
        by: Duration,
    },
}

impl Violation {
    /// When it came about.
    pub fn at(&self) -> Duration {
        match self {
            Self::Overlap { second, .. } | Self::TokenRepeated { second, .. } => second.from,
            Self::TokenFell { later, .. } => later.from,
            Self::GrantedLate { hold, .. } => hold.from,
            Self::RenewedLate { hold, by, .. } => hold.to + *by,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, token, from, to } = self;
        let (from, to) = (from.as_secs_f64(), to.as_secs_f64());
        write!(f, "{who:?} (token {token}, from {from:.6} s to {to:.6} s)")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overlap { id, first, second, by } => {
                write!(f, "two held lock {id:?} at once for {by:?}: {first} and {second}")
            }
            Self::TokenRepeated { id, first, second } => {
                write!(f, "two holds of lock {id:?} have the same token: {first} and {second}")
            }
            Self::TokenFell { id, earlier, later } => {
                write!(f, "the token of lock {id:?} fell from {earlier} to {later}")
            }
            Self::GrantedLate { id, hold, by } => {
                write!(f, "lock {id:?} was granted {by:?} after its own deadline: {hold}")
            }
            Self::RenewedLate { id, hold, by } => {
                write!(f, "lock {id:?} was renewed {by:?} after the hold was over: {hold}")
            }
        }
    }
}
