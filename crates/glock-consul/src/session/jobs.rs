//! `Job`: what clean-up does for a session that no call uses any more.

use std::collections::VecDeque;

use glock_core::toolkit::{Backoff, Mutex, PendingEntry};

use crate::session::{lifetime::Session, transfer::Transfer};

/// What clean-up does for a session that no call uses any more.
#[derive(Debug)]
pub(crate) enum Job {
    /// Destroy this session.
    Destroy(String),
    /// Find out which session a hold is on, and destroy the other.
    Resolve(Box<Transfer>),
}

/// A job, and how often it has failed.
pub(super) struct Queued {
    pub(super) job: Job,
    pub(super) failures: u32,
    /// `None`: its session holds nothing.
    pub(super) _pending: Option<PendingEntry>,
}

/// The jobs that are not done.
pub(super) struct Jobs {
    pub(super) queue: VecDeque<Queued>,
    /// The pauses while jobs fail.
    pub(super) pauses: Backoff,
}

impl Queued {
    pub(super) fn spare(session: Session) -> Self {
        Self { job: Job::Destroy(session.id), failures: 0, _pending: None }
    }
}

/// A job that is not done when this is dropped, with its runtime or after a failure, is queued again.
pub(super) struct TakenJob<'a> {
    pub(super) job: Option<Queued>,
    pub(super) jobs: &'a Mutex<Jobs>,
}

impl Drop for TakenJob<'_> {
    fn drop(&mut self) {
        self.jobs.lock().queue.extend(self.job.take());
    }
}
