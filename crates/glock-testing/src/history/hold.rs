//! Recorders of one try to take a lock and of the hold that comes of it.

use std::time::Duration;

use tokio::time::Instant;

use crate::history::log::Log;
use crate::history::record::{Grant, Outcome, Renewal};

/// A try under way. Dropped, it counts as unknown: the store may have granted it.
#[derive(Debug)]
#[must_use = "a try of which nothing more is said counts as unknown"]
pub struct Attempt {
    log: Log,
    index: usize,
}

impl Attempt {
    pub(crate) fn new(log: Log, index: usize) -> Self {
        Self { log, index }
    }

    /// It was granted with `token`, by a lease whose local deadline is `until`. To be called after the grant has come.
    pub fn granted(self, token: u64, until: Instant) -> Hold {
        let ok = self.log.since_epoch(Instant::now());
        let until = self.log.since_epoch(until);
        self.granted_as(Grant::new(token, ok, until))
    }

    /// Another owner holds the lock; nothing was taken.
    pub fn held(self) {
        let at = self.log.since_epoch(Instant::now());
        self.end(Outcome::Held { at });
    }

    /// It was given up after waiting; nothing was taken.
    pub fn timed_out(self) {
        let at = self.log.since_epoch(Instant::now());
        self.end(Outcome::TimedOut { at });
    }

    /// Unknown: the reply was lost, or the call dropped. The same as dropping this.
    pub fn unknown(self) {
        drop(self);
    }

    pub(crate) fn granted_as(self, grant: Grant) -> Hold {
        let Self { log, index } = self;
        log.change(index, |record| record.outcome = Outcome::Granted(grant));
        Hold { log, index }
    }

    fn end(self, outcome: Outcome) {
        self.log.change(self.index, |record| record.outcome = outcome);
    }
}

/// A hold under way.
///
/// Dropped, it has ended at that moment, if neither a release nor a loss was recorded before. So declare it after the
/// guard that it records: what is declared later is dropped first, and the record ends before the hold does.
#[derive(Debug)]
#[must_use = "a dropped hold is recorded as ended"]
pub struct Hold {
    log: Log,
    index: usize,
}

impl Hold {
    /// A renewal is about to be asked for.
    pub fn renewing(&mut self) -> Renewing<'_> {
        let invoke = self.log.since_epoch(Instant::now());
        Renewing { hold: self, invoke }
    }

    /// The holder has learned that the lock is lost.
    pub fn lost(&mut self) {
        self.lost_at(self.log.since_epoch(Instant::now()));
    }

    /// The release is about to be asked for; from here on another may hold.
    pub fn releasing(self) -> Releasing {
        let at = self.log.since_epoch(Instant::now());
        self.releasing_at(at)
    }

    pub(crate) fn renewed_as(&mut self, renewal: Renewal) {
        self.change(|grant| grant.renewals.push(renewal));
    }

    pub(crate) fn lost_at(&mut self, at: Duration) {
        self.change(|grant| {
            grant.lost.get_or_insert(at);
        });
    }

    pub(crate) fn releasing_at(self, at: Duration) -> Releasing {
        self.change(|grant| grant.release = Some(at));
        Releasing(self)
    }

    fn change(&self, change: impl FnOnce(&mut Grant)) {
        self.log.change(self.index, |record| {
            if let Outcome::Granted(grant) = &mut record.outcome {
                change(grant);
            }
        });
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let at = self.log.since_epoch(Instant::now());
        self.change(|grant| {
            if grant.release.is_none() {
                grant.lost.get_or_insert(at);
            }
        });
    }
}

/// A renewal under way. Dropped, it has failed or its outcome is unknown: the earlier deadline stands.
#[derive(Debug)]
pub struct Renewing<'a> {
    hold: &'a mut Hold,
    invoke: Duration,
}

impl Renewing<'_> {
    /// The store has agreed; the lease's local deadline is now `until`.
    pub fn renewed(self, until: Instant) {
        let Self { hold, invoke } = self;
        let ok = hold.log.since_epoch(Instant::now());
        let until = hold.log.since_epoch(until);
        hold.renewed_as(Renewal { invoke, ok, until });
    }
}

/// A release under way. Dropped, it may have reached the store or not.
#[derive(Debug)]
pub struct Releasing(Hold);

impl Releasing {
    /// The store has confirmed it.
    pub fn released(self) {
        let at = self.0.log.since_epoch(Instant::now());
        self.0.change(|grant| grant.released = Some(at));
    }
}
