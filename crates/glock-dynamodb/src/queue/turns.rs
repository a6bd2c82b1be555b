//! Whose turn it is, and moving a queue on whose first waiter is gone.

use std::{collections::HashSet, time::Duration};

use glock_core::{
    Action, LockError, LockId,
    toolkit::{CallDeadline, Mutex, WaiterRegistry},
};

use crate::{
    client::{Client, Known},
    queue::{
        commands::{Place, REMOVED_MAX},
        pauses::pause,
        shown::Shown,
    },
    schema::{Record, Version},
};

/// For how long a free lock is the first waiter's: twice the longest pause between two of its reads. DynamoDB has
/// no clock, so the other clients count it, each by its own.
pub(crate) const TURN_MAX: Duration = Duration::from_secs(2);

/// The waiters of this client whose turn a reply has shown: they need not read before they claim.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashSet<u64>>);

impl Turns {
    fn note(&self, number: u64, registry: &WaiterRegistry) {
        let mut turns = self.0.lock();
        // Of one that is gone, nothing is left.
        turns.retain(|number| registry.has_waiter(*number));
        turns.insert(number);
    }

    /// Whether it is this waiter's turn, as far as was shown since the last call.
    pub(crate) fn take(&self, number: u64) -> bool {
        self.0.lock().remove(&number)
    }
}

/// What the first of this client's waiters for a lock does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is its turn.
    Claim,
    /// It reads after so long.
    Read(Duration),
    /// It relies on the heartbeats of all waiters.
    Heartbeat,
}

/// What moves a queue on.
enum Step {
    Nothing,
    /// Free the lock for the first waiter: its lease has run out.
    Free(Version),
    /// Remove the places of waiters that are gone.
    Remove,
}

/// The client of a waiter of this name.
fn client_of(waiter: &str) -> &str {
    waiter.split_once(':').map_or(waiter, |(client, _)| client)
}

impl Client {
    /// Reads the lock's item, and moves its queue on. `None`: there is no item.
    pub(crate) async fn read(
        &self,
        id: &LockId,
        action: Action,
        until: CallDeadline,
    ) -> Result<Option<Shown>, LockError> {
        let key = self.key(id);
        let read = self.repeated(action, until, || self.commands.get(&key)).await;
        self.settle(&key, read.result?.of, action, until).await
    }

    /// Notes what a reply says of a lock. Where its first waiter is not this client's, frees the lock for it if the
    /// lease has run out, and removes it once it is gone.
    pub(crate) async fn settle(
        &self,
        key: &str,
        mut record: Option<Record>,
        action: Action,
        until: CallDeadline,
    ) -> Result<Option<Shown>, LockError> {
        loop {
            let known = self.note(key, record.as_ref());
            let Some(now) = record else {
                self.reservations.none(key);
                return Ok(None);
            };
            let (step, free_for) = self.step(key, &now, known.as_ref());
            let moved = match step {
                Step::Nothing => return Ok(Some(Shown { record: now, known, free_for })),
                Step::Free(over) => {
                    self.repeated(action, until, || self.commands.free(key, &over)).await
                }
                Step::Remove => {
                    let gone = self.gone_with_first(&now.waiters);
                    let free_since = Some(now.number);
                    let remove = || self.commands.remove(key, &gone, free_since);
                    self.repeated(action, until, remove).await
                }
            };
            // A refused one shows what another client has done meanwhile.
            record = moved.result?.of;
        }
    }

    /// What moves the queue on, and for how long the lock has been free for its first waiter.
    fn step(&self, key: &str, record: &Record, known: Option<&Known>) -> (Step, Duration) {
        let Some(first) = record.waiters.first() else {
            self.reservations.none(key);
            return (Step::Nothing, Duration::ZERO);
        };
        if let Some(known) = known {
            self.reservations.none(key);
            let is_for_another = known.is_over() && self.own(first).is_none();
            let step =
                if is_for_another { Step::Free(known.version.clone()) } else { Step::Nothing };
            return (step, Duration::ZERO);
        }
        let free_for = self.reservations.note(key, (record.number, client_of(first).to_owned()));
        let is_gone = match (self.own(first), self.is_own(first)) {
            (Some(_), _) => false,
            // It left before it had a place to leave.
            (None, true) => true,
            (None, false) => free_for >= TURN_MAX,
        };
        (if is_gone { Step::Remove } else { Step::Nothing }, free_for)
    }

    /// The places that are gone if the first one is: those of its client, for which nobody would claim either.
    fn gone_with_first<'a>(&self, waiters: &'a [String]) -> Vec<Place<'a>> {
        let first = waiters.first().map(|first| client_of(first));
        let places = waiters.iter().map(String::as_str).enumerate();
        let gone = places
            .filter(|(_, waiter)| Some(client_of(waiter)) == first && self.own(waiter).is_none());
        gone.take(REMOVED_MAX).collect()
    }

    /// This client's first waiter for the lock, and what it does next.
    pub(crate) fn next_of(&self, shown: &Shown) -> Option<(u64, Next)> {
        let mut places = shown.record.waiters.iter().enumerate();
        let (place, number) =
            places.find_map(|(place, waiter)| Some((place, self.own(waiter)?)))?;
        if place == 0 && !shown.is_held() {
            return Some((number, Next::Claim));
        }
        let pause = self.pause(place, shown.unchanged(), shown.ends_in(place));
        let next = if pause < self.poll_max * 3 / 5 { Next::Read(pause) } else { Next::Heartbeat };
        Some((number, next))
    }

    /// How long one that has so many waiters before it waits until it reads again a lock that has been as it is
    /// for that long, and that is for so long at most.
    pub(crate) fn pause(&self, place: usize, unchanged: Duration, ends_in: Duration) -> Duration {
        pause(place, unchanged, self.requests.latency(), self.poll_max).min(ends_in)
    }

    /// Has this client's first waiter do what it does next.
    pub(crate) fn tell_next(&self, shown: &Shown) {
        match self.next_of(shown) {
            Some((number, Next::Claim)) => self.turn(number),
            Some((number, Next::Read(pause))) => self.notified.waiters.wake_in(number, pause),
            Some((_, Next::Heartbeat)) | None => {}
        }
    }

    /// It is this waiter's turn.
    pub(crate) fn turn(&self, number: u64) {
        self.turns.note(number, &self.notified.waiters);
        self.notified.waiters.turn(number);
    }

    /// The number of a waiter of this client, while it waits.
    pub(crate) fn own(&self, waiter: &str) -> Option<u64> {
        let number = self.notified.waiters.client().number_of(waiter)?;
        self.notified.waiters.has_waiter(number).then_some(number)
    }

    fn is_own(&self, waiter: &str) -> bool {
        self.notified.waiters.client().number_of(waiter).is_some()
    }
}
