//! What a history without violations says about speed and fairness.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Counts and times of a history in which no rule was broken. A test asserts a floor for `grants`, as a history of
/// nothing breaks no rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Tries that were granted.
    pub grants: u64,
    /// Tries refused, as another owner held the lock.
    pub held: u64,
    /// Tries given up after waiting.
    pub timed_out: u64,
    /// Tries whose outcome is unknown.
    pub unknown: u64,
    /// Grants of each who tried; zero for one who never got any.
    pub shares: BTreeMap<String, u64>,
    /// The longest that a granted try took.
    pub longest_wait: Duration,
    /// From the begin of a release to the next grant of the same lock to another owner, shortest first.
    pub hand_overs: Vec<Duration>,
}

impl Summary {
    /// Grants of the one who got fewest.
    pub fn share_min(&self) -> u64 {
        self.shares.values().copied().min().unwrap_or(0)
    }

    /// Grants of the one who got most.
    pub fn share_max(&self) -> u64 {
        self.shares.values().copied().max().unwrap_or(0)
    }

    /// The middle one of all hand-overs, if there was any.
    pub fn hand_over_median(&self) -> Option<Duration> {
        self.hand_overs.get(self.hand_overs.len() / 2).copied()
    }

    /// The longest hand-over, if there was any.
    pub fn hand_over_max(&self) -> Option<Duration> {
        self.hand_overs.last().copied()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grants, held, timed_out, unknown, longest_wait, .. } = self;
        let (least, most) = (self.share_min(), self.share_max());
        write!(f, "{grants} grants, {held} refused, {timed_out} timed out, {unknown} unknown; ")?;
        write!(f, "shares {least} to {most}; longest wait {longest_wait:?}")?;
        match (self.hand_over_median(), self.hand_over_max()) {
            (Some(median), Some(max)) => write!(f, "; hand-over {median:?}, at most {max:?}"),
            _ => Ok(()),
        }
    }
}
