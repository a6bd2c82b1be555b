//! Records who held which lock when, and finds what no lock may do: two holders at once, tokens out of order.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use std::time::Duration;
//!
//! use glock_testing::history::History;
//! use tokio::time::Instant;
//!
//! let history = History::new();
//! let attempt = history.acquiring("worker 1", "jobs"); // before the call
//! // .. acquire ..
//! let hold = attempt.granted(7, Instant::now() + Duration::from_secs(30)); // after it
//! // .. work ..
//! let release = hold.releasing(); // before the release
//! // .. release ..
//! release.released();
//! assert_eq!(history.expect_sound().grants, 1);
//! # });
//! ```
//!
//! A recorder is called on the far side of what it records: a grant is written down after it came, a release before it is
//! sent. So a hold is recorded shorter than it was, never longer, and an overlap that is found has truly been.
//! The same rule carries over to other processes, see [`remote`].

mod check;
mod hold;
mod json;
mod log;
mod record;
pub mod remote;
mod reporter;
mod summary;
mod violation;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use tokio::time::Instant;

pub use crate::history::check::check;
pub use crate::history::hold::{Attempt, Hold, Releasing, Renewing};
use crate::history::log::Log;
pub use crate::history::record::{Grant, Outcome, Record, Renewal};
pub use crate::history::summary::Summary;
pub use crate::history::violation::{Party, Violation};

/// Violations that a failed assertion spells out.
const SHOWN_MAX: usize = 20;

/// A recorder for any number of tasks and threads; clones write to the same history.
///
/// Its clock is tokio's, so that a test that pauses time can use it as well.
#[derive(Clone, Debug)]
pub struct History {
    log: Log,
}

impl History {
    /// An empty history, its time counted from now.
    pub fn new() -> Self {
        Self { log: Log::new() }
    }

    /// Notes that `who` is about to ask for lock `id`. To be called before the request is made.
    pub fn acquiring(&self, who: &str, id: &str) -> Attempt {
        let index = self.log.begin(who, id);
        Attempt::new(self.log.clone(), index)
    }

    /// All that has been recorded, in the order in which the tries began.
    pub fn records(&self) -> Vec<Record> {
        self.log.records()
    }

    /// Looks at all that has been recorded so far. See [`check`].
    ///
    /// # Errors
    ///
    /// Every violation found, earliest first.
    pub fn check(&self) -> Result<Summary, Vec<Violation>> {
        check(&self.records())
    }

    /// Asserts that nothing forbidden has been recorded.
    ///
    /// # Panics
    ///
    /// With one violation a line, where there is any.
    #[track_caller]
    pub fn expect_sound(&self) -> Summary {
        let violations = match self.check() {
            Ok(summary) => return summary,
            Err(violations) => violations,
        };
        let mut text = String::new();
        for violation in violations.iter().take(SHOWN_MAX) {
            // Writing to a string does not fail.
            let _ = write!(text, "\n- {violation}");
        }
        panic!("the history has {} violations, the first of them:{text}", violations.len());
    }

    /// Writes one JSON object a line for every try: who, id, outcome and all times in nanoseconds since the start.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_jsonl(&self, out: &mut impl Write) -> io::Result<()> {
        json::write(&self.records(), out)
    }

    /// A time as the records have it; what was before the history's start counts as its start.
    pub fn since_epoch(&self, time: Instant) -> Duration {
        self.log.since_epoch(time)
    }
}

impl Default for History {
    fn default() -> Self {
        Self::new()
    }
}
