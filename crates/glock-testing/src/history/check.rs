//! Decides whether a history could be that of one mutex, without a search.
//!
//! A hold surely excluded all others from the moment its holder knew of the grant until the holder gave it up: its *must*
//! interval. The holds of one lock can be put in a legal order exactly if their must intervals are pairwise disjoint. If
//! they are, let each take effect at the two ends of its interval. If two are not, no choice of moments helps, as every
//! choice contains the must interval. Tries of unknown outcome may be taken as never granted, so they prove nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::record::{Grant, Outcome, Record};
use crate::history::summary::Summary;
use crate::history::violation::{Party, Violation};

/// Looks at all records together: in any order, of any number of locks, in O(n log n).
///
/// # Errors
///
/// Every violation found, earliest first. Of more than two holds at once, each is named with one that it overlaps.
pub fn check(records: &[Record]) -> Result<Summary, Vec<Violation>> {
    let mut locks: BTreeMap<&str, Vec<Held<'_>>> = BTreeMap::new();
    for record in records {
        if let Outcome::Granted(grant) = &record.outcome {
            locks.entry(&record.id).or_default().push(Held { record, grant, end: grant.end() });
        }
    }
    let mut violations = Vec::new();
    for holds in locks.values_mut() {
        lateness(holds, &mut violations);
        tokens(holds, &mut violations);
        exclusion(holds, &mut violations);
    }
    if violations.is_empty() {
        return Ok(summary(records, locks));
    }
    violations.sort_by_key(Violation::at);
    Err(violations)
}

/// A granted record, taken apart once.
#[derive(Clone, Copy)]
struct Held<'a> {
    record: &'a Record,
    grant: &'a Grant,
    end: Duration,
}

impl Held<'_> {
    fn id(&self) -> String {
        self.record.id.to_string()
    }

    fn party(&self) -> Party {
        Party {
            who: self.record.who.to_string(),
            token: self.grant.token,
            from: self.grant.ok,
            to: self.end,
        }
    }
}

fn lateness(holds: &[Held<'_>], violations: &mut Vec<Violation>) {
    for hold in holds {
        let by = hold.grant.overdue;
        if !by.is_zero() {
            violations.push(Violation::GrantedLate { id: hold.id(), hold: hold.party(), by });
        }
        if let Some(by) = hold.grant.late_renewal() {
            violations.push(Violation::RenewedLate { id: hold.id(), hold: hold.party(), by });
        }
    }
}

fn exclusion(holds: &mut [Held<'_>], violations: &mut Vec<Violation>) {
    // Where two begin together, the one that held for a moment only comes first and overlaps no other.
    holds.sort_by_key(|hold| (hold.grant.ok, hold.end));
    let mut latest: Option<Held<'_>> = None;
    for hold in holds.iter().filter(|hold| hold.grant.ok <= hold.end) {
        if let Some(other) = latest.filter(|other| other.end > hold.grant.ok) {
            violations.push(Violation::Overlap {
                id: hold.id(),
                first: other.party(),
                second: hold.party(),
                by: other.end.min(hold.end).saturating_sub(hold.grant.ok),
            });
        }
        if latest.is_none_or(|other| other.end < hold.end) {
            latest = Some(*hold);
        }
    }
}

fn tokens(holds: &mut [Held<'_>], violations: &mut Vec<Violation>) {
    holds.sort_by_key(|hold| (hold.grant.token, hold.grant.ok));
    for pair in holds.windows(2) {
        if pair[0].grant.token == pair[1].grant.token {
            let (first, second) = (pair[0].party(), pair[1].party());
            violations.push(Violation::TokenRepeated { id: pair[0].id(), first, second });
        }
    }
    // Only a hold that was granted before the other was asked for is surely the earlier one.
    holds.sort_by_key(|hold| hold.grant.ok);
    let mut granted = holds.iter().peekable();
    let mut asked: Vec<_> = holds.iter().collect();
    asked.sort_by_key(|hold| hold.record.invoke);
    let mut highest: Option<&Held<'_>> = None;
    for later in asked {
        while let Some(earlier) = granted.next_if(|hold| hold.grant.ok < later.record.invoke) {
            if highest.is_none_or(|hold| hold.grant.token < earlier.grant.token) {
                highest = Some(earlier);
            }
        }
        if let Some(earlier) = highest.filter(|hold| hold.grant.token > later.grant.token) {
            let (earlier, later_party) = (earlier.party(), later.party());
            violations.push(Violation::TokenFell { id: later.id(), earlier, later: later_party });
        }
    }
}

fn summary(records: &[Record], locks: BTreeMap<&str, Vec<Held<'_>>>) -> Summary {
    let mut summary = Summary::default();
    for record in records {
        let share = summary.shares.entry(record.who.to_string()).or_default();
        match &record.outcome {
            Outcome::Unknown => summary.unknown += 1,
            Outcome::Held { .. } => summary.held += 1,
            Outcome::TimedOut { .. } => summary.timed_out += 1,
            Outcome::Granted(grant) => {
                *share += 1;
                summary.grants += 1;
                let wait = grant.ok.saturating_sub(record.invoke);
                summary.longest_wait = summary.longest_wait.max(wait);
            }
        }
    }
    for mut holds in locks.into_values() {
        holds.sort_by_key(|hold| hold.grant.ok);
        summary
            .hand_overs
            .extend(holds.windows(2).filter_map(|pair| hand_over(&pair[0], &pair[1])));
    }
    summary.hand_overs.sort();
    summary
}

fn hand_over(from: &Held<'_>, to: &Held<'_>) -> Option<Duration> {
    // What expired or was lost before its release was not handed over, and to oneself is no way at all.
    let release = from.grant.release.filter(|release| *release == from.end)?;
    if from.record.who == to.record.who {
        return None;
    }
    to.grant.ok.checked_sub(release)
}
