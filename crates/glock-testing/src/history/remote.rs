//! Records holds of another process on this process's clock.
//!
//! The clocks of two processes cannot be compared by what the standard library offers. So the child tells what it does,
//! one line each, and the parent puts the times to it such that a hold is never recorded longer than it was:
//!
//! - The child announces a try and waits for the parent's *go*. The parent stamps it before it answers, so it is not later
//!   than the true beginning.
//! - A **beginning** of a hold is stamped when the line about it arrives: not earlier than it was.
//! - An **end** (release, loss, deadline) is sent as the time since the child read *go*, and counted from when the parent
//!   wrote it: not later than it was.
//!
//! So must intervals shrink by the time that a line takes through the pipe, and may intervals grow. A violation that is
//! found is one; overlaps shorter than a line's way are overlooked.
//!
//! The parent's loop is
//!
//! ```no_run
//! # use glock_testing::{history::{History, remote::{Answer, GO, Remote}}, process::Child};
//! # async fn example(history: History, mut child: Child) -> std::io::Result<()> {
//! let mut remote = Remote::new(&history, "child 1");
//! while let Some(line) = child.line().await? {
//!     if remote.receive(&line)? == Answer::Go {
//!         child.say(GO).await?;
//!     }
//! }
//! # Ok(())
//! # }
//! ```

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use crate::history::History;
use crate::history::hold::{Attempt, Hold, Releasing};
use crate::history::record::{Grant, Renewal};
pub use crate::history::reporter::Reporter;

/// What the parent answers to an announced try.
pub const GO: &str = "go";

/// What the parent has to do about a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    Nothing,
    /// Send the child the line [`GO`].
    Go,
}

/// The parent's side: writes what one child tells into a history. A child that ends without a word held its lock no longer
/// than it is known to have lived.
#[derive(Debug)]
pub struct Remote {
    history: History,
    who: String,
    go: Duration,
    seen: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle,
    Trying(Attempt),
    Holding(Hold),
    Releasing(Releasing),
}

impl Remote {
    /// Records as `who`.
    pub fn new(history: &History, who: &str) -> Self {
        let history = history.clone();
        Self {
            history,
            who: who.to_owned(),
            go: Duration::ZERO,
            seen: Duration::ZERO,
            state: State::Idle,
        }
    }

    /// Takes a line of the child, as soon as it has come.
    ///
    /// # Errors
    ///
    /// `InvalidData` when no [`Reporter`] can have written it at this point.
    pub fn receive(&mut self, line: &str) -> io::Result<Answer> {
        let arrived = self.history.since_epoch(Instant::now());
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "acquiring" {
            self.give_up();
            self.state = State::Trying(self.history.acquiring(&self.who, &unescape(rest)));
            // Before the answer is written, and after the record has its stamp.
            self.go = self.history.since_epoch(Instant::now());
            return Ok(Answer::Go);
        }
        let numbers: Option<Vec<u64>> =
            rest.split_terminator(' ').map(|text| text.parse().ok()).collect();
        let state = std::mem::replace(&mut self.state, State::Idle);
        let next = match (state, numbers.as_deref()) {
            (State::Trying(attempt), Some(numbers)) => self.tried(attempt, arrived, word, numbers),
            (State::Holding(hold), Some(numbers)) => self.held(hold, word, numbers),
            (State::Releasing(release), Some([])) if word == "released" => {
                release.released();
                Ok(State::Idle)
            }
            (state, _) => Err(state),
        };
        match next {
            Ok(state) => {
                self.state = state;
                Ok(Answer::Nothing)
            }
            Err(state) => {
                self.state = state;
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("unexpected line {line:?}")))
            }
        }
    }

    /// The child is about to be killed: it holds up to now. To be called before the kill.
    pub fn killing(&mut self) {
        self.seen = self.history.since_epoch(Instant::now());
    }

    fn tried(
        &mut self,
        attempt: Attempt,
        arrived: Duration,
        word: &str,
        numbers: &[u64],
    ) -> Result<State, State> {
        match (word, numbers) {
            ("held", []) => attempt.held(),
            ("timed-out", []) => attempt.timed_out(),
            ("unknown", []) => attempt.unknown(),
            ("granted", &[token, ok, until]) => {
                self.seen = self.at(ok);
                let mut grant = Grant::new(token, arrived, self.at(until));
                // The line's way is not the lock's fault: the child's own clock decides what came too late.
                grant.overdue = Duration::from_nanos(ok.saturating_sub(until));
                return Ok(State::Holding(attempt.granted_as(grant)));
            }
            _ => return Err(State::Trying(attempt)),
        }
        Ok(State::Idle)
    }

    fn held(&mut self, mut hold: Hold, word: &str, numbers: &[u64]) -> Result<State, State> {
        match (word, numbers) {
            ("renewed", &[invoke, ok, until]) => {
                let (invoke, ok, until) = (self.at(invoke), self.at(ok), self.at(until));
                self.seen = ok;
                hold.renewed_as(Renewal { invoke, ok, until });
            }
            ("lost", &[at]) => hold.lost_at(self.at(at)),
            ("releasing", &[at]) => return Ok(State::Releasing(hold.releasing_at(self.at(at)))),
            _ => return Err(State::Holding(hold)),
        }
        Ok(State::Holding(hold))
    }

    /// Ends a hold that the child said no more of when it was last known to have it.
    fn give_up(&mut self) {
        if let State::Holding(hold) = &mut self.state {
            hold.lost_at(self.seen);
        }
    }

    /// A moment that the child sent, at the latest.
    fn at(&self, since_go: u64) -> Duration {
        self.go + Duration::from_nanos(since_go)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Undoes what the reporter does to keep an id on one line.
fn unescape(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        id.push(match char {
            '\\' => match chars.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some(other) => other,
                None => break,
            },
            other => other,
        });
    }
    id
}
