//! Whose turn it is, and moving a queue on whose first waiter is gone.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, LockError, LockId,
    toolkit::{CallDeadline, client_of},
};

use crate::{
    client::{Client, Known},
    queue::{
        commands::{Place, REMOVED_MAX},
        pauses::pause,
        shown::Shown,
        turns::TURN_MAX,
    },
    schema::{Record, Version},
};

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
    /// Free the lock: its lease has run out. The first waiter may have come later, and not know it.
    Free(Version),
    /// Remove the places of waiters that are gone.
    Remove,
}

impl Client {
    /// Reads the lock's item, and moves its queue on. `None`: there is no item.
    pub(crate) async fn read(
        self: &Arc<Self>,
        id: &LockId,
        action: Action,
    ) -> Result<Option<Shown>, LockError> {
        let call = self.call(action);
        let (client, key, until) = (Arc::clone(self), self.key(id), call.deadline());
        let read = async move {
            let read = client.repeated(action, until, || client.commands.get(&key)).await;
            Ok(client.move_on(&key, read.result?.of, action, until).await)
        };
        call.run(read).await
    }

    /// Notes what a reply says of a lock. Where callers wait for it, frees the lock if its lease has run out, and
    /// removes the first one once it is gone. If that fails, the next one who looks tries again.
    pub(crate) async fn move_on(
        &self,
        key: &str,
        mut record: Option<Record>,
        action: Action,
        until: CallDeadline,
    ) -> Option<Shown> {
        loop {
            let known = self.note(key, record.as_ref());
            let Some(now) = record else {
                self.reservations.none(key);
                return None;
            };
            let (step, free_for) = self.step(key, &now, known.as_ref());
            let moved = match step {
                Step::Nothing => return Some(Shown { record: now, known, free_for }),
                Step::Free(over) => {
                    self.repeated(action, until, || self.commands.free(key, &over)).await
                }
                Step::Remove => {
                    let gone = self.gone_with_first(&now.waiters);
                    let remove = || self.commands.remove(key, &gone, Some(now.number));
                    self.repeated(action, until, remove).await
                }
            };
            record = match moved.result {
                // A refused one shows what another client has done meanwhile.
                Ok(reply) => reply.of,
                Err(_) => return Some(Shown { record: now, known, free_for }),
            };
        }
    }

    /// What moves the queue on, and for how long the lock has been free for its first waiter.
    fn step(&self, key: &str, record: &Record, known: Option<&Known>) -> (Step, Duration) {
        let first = record.waiters.first();
        let (Some(first), None) = (first, known) else {
            self.reservations.none(key);
            let over = known.filter(|known| known.is_over() && first.is_some());
            let step = over.map_or(Step::Nothing, |over| Step::Free(over.version.clone()));
            return (step, Duration::ZERO);
        };
        let free_for = self.reservations.note(key, (record.number, client_of(first).to_owned()));
        // It left before it had a place to leave, or its program does not poll it, or its client is gone.
        let has_left = self.is_own(first) && self.own(first).is_none();
        let is_gone = has_left || free_for >= TURN_MAX;
        (if is_gone { Step::Remove } else { Step::Nothing }, free_for)
    }

    /// The places that are gone if the first one is. Those of another client go with it, because it would not
    /// claim for them either.
    fn gone_with_first<'a>(&self, waiters: &'a [String]) -> Vec<Place<'a>> {
        let first = waiters.first().map(|first| client_of(first));
        let places = waiters.iter().map(String::as_str).enumerate();
        let gone = places.filter(|(place, waiter)| {
            *place == 0 || (Some(client_of(waiter)) == first && self.own(waiter).is_none())
        });
        gone.take(REMOVED_MAX).collect()
    }

    /// This client's first waiter for the lock, and what it does next.
    fn next_of(&self, shown: &Shown) -> Option<(u64, Next)> {
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

    /// Whether it is this waiter's turn.
    pub(crate) fn is_turn(&self, shown: &Shown, waiter: u64) -> bool {
        self.next_of(shown) == Some((waiter, Next::Claim))
    }

    /// The waiter of this client whose turn it is, which is noted; or its first one, and after how long that reads
    /// again. It reads for all of them.
    pub(crate) fn next(&self, shown: &Shown) -> (Option<u64>, Option<(u64, Duration)>) {
        match self.next_of(shown) {
            Some((number, Next::Claim)) => {
                self.turns.note(number, &self.notified.waiters);
                (Some(number), None)
            }
            Some((number, Next::Read(pause))) => (None, Some((number, pause))),
            Some((_, Next::Heartbeat)) | None => (None, None),
        }
    }

    /// Has this client's first waiter do what it does next.
    pub(crate) fn tell_next(&self, shown: &Shown) {
        let (turn, first) = self.next(shown);
        self.notified.waiters.turn(turn);
        if let Some((number, pause)) = first {
            self.notified.waiters.wake_in(number, pause);
        }
    }

    /// This client's waiter whose turn it is, if it is the first of these.
    pub(crate) fn turn_of_first(&self, waiters: &[String]) -> Option<u64> {
        let number = self.own(waiters.first()?)?;
        self.turns.note(number, &self.notified.waiters);
        Some(number)
    }

    /// How long one that has so many waiters before it waits until it reads again a lock that has been as it is
    /// for that long, and that is for so long at most.
    pub(crate) fn pause(&self, place: usize, unchanged: Duration, ends_in: Duration) -> Duration {
        pause(place, unchanged, self.requests.latency(), self.poll_max).min(ends_in)
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
