//! What a history knows of one try to take a lock: plain data, times counted from the history's start.

use std::sync::Arc;
use std::time::Duration;

/// One try to take a lock, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who tried: a task, a client or a process.
    pub who: Arc<str>,
    /// The lock's id.
    pub id: Arc<str>,
    /// When the try began, or earlier.
    pub invoke: Duration,
    /// What is known of its end.
    pub outcome: Outcome,
}

/// What is known of the end of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not ended, or ended without an answer: the store may have granted it.
    Unknown,
    /// Refused, as another owner holds the lock.
    Held {
        /// When the answer came.
        at: Duration,
    },
    /// Given up after waiting, with nothing taken.
    TimedOut {
        /// When it was given up.
        at: Duration,
    },
    /// Granted.
    Granted(Grant),
}

/// A hold from its grant to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its fencing token.
    pub token: u64,
    /// When the grant came, or later.
    pub ok: Duration,
    /// The lease's local deadline, or earlier; before any renewal.
    pub until: Duration,
    /// By how much the grant came after its deadline on the holder's own clock; zero where it came in time.
    pub overdue: Duration,
    /// Renewals that the store agreed to, in order.
    pub renewals: Vec<Renewal>,
    /// When the holder ceased to believe in it without releasing it: it learned of its loss, was dropped or killed.
    pub lost: Option<Duration>,
    /// When its release began, or earlier.
    pub release: Option<Duration>,
    /// When the store confirmed the release, or later.
    pub released: Option<Duration>,
}

/// A renewal that the store agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// When it began.
    pub invoke: Duration,
    /// When the store's answer came.
    pub ok: Duration,
    /// The deadline from then on.
    pub until: Duration,
}

impl Grant {
    /// A grant that has neither been renewed nor ended.
    pub fn new(token: u64, ok: Duration, until: Duration) -> Self {
        let overdue = ok.saturating_sub(until);
        Self {
            token,
            ok,
            until,
            overdue,
            renewals: Vec::new(),
            lost: None,
            release: None,
            released: None,
        }
    }

    /// Where the time in which this hold must have excluded all others ends: at its release, its loss or its deadline,
    /// whichever is first. It is before [`ok`](Self::ok) where there was no such time.
    pub fn end(&self) -> Duration {
        self.judge().end
    }

    /// The first renewal that the store agreed to although the hold was over, and by how much it came too late.
    pub(crate) fn late_renewal(&self) -> Option<Duration> {
        self.judge().late_renewal
    }

    fn judge(&self) -> Judgement {
        let given_up = |until: Duration| {
            [self.release, self.lost].into_iter().flatten().fold(until, Duration::min)
        };
        let mut until = self.until;
        for renewal in &self.renewals {
            let over = given_up(until);
            // An answer may come after the deadline that it moves: the store has kept the hold all the time. It may not
            // bring back what its holder knows to be lost.
            let revived = self
                .lost
                .filter(|lost| renewal.ok > *lost)
                .map(|lost| renewal.ok.saturating_sub(lost));
            let asked_late = (renewal.invoke > over).then(|| renewal.invoke.saturating_sub(over));
            if let Some(by) = asked_late.or(revived) {
                return Judgement { end: over, late_renewal: Some(by) };
            }
            until = renewal.until;
        }
        Judgement { end: given_up(until), late_renewal: None }
    }
}

struct Judgement {
    end: Duration,
    late_renewal: Option<Duration>,
}
