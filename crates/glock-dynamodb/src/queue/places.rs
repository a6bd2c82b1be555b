//! Taking a place in the queue, taking the lock when it is its turn, and leaving.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockError, LockId,
    toolkit::{ALIVE_FOR, Backoff, CallDeadline, Joining, WaiterId},
};

use crate::{
    acquire::acquire,
    client::Client,
    error::Failure,
    queue::{
        commands::{PLACES_MAX, Place, REMOVED_MAX},
        leaving::Names,
        shown::Shown,
    },
};

/// After so many requests without a place or a grant, the caller pauses.
const ROUNDS_MAX: usize = 5;

/// What a waiter does next.
enum Step {
    /// Takes the lock if there are no waiters.
    Try,
    Join,
    Read,
    Claim,
}

/// Takes the lock if it is free or the waiter's turn; otherwise the waiter is then in the queue.
pub(crate) async fn enter(
    client: &Arc<Client>,
    id: &LockId,
    ttl: Duration,
    joining: &Joining,
) -> Result<Lease, LockError> {
    let waiter = joining.waiter();
    let name = waiter.to_string();
    let mut step = if client.turns.take(waiter.number) {
        Step::Claim
    } else if client.notified.waiters.has_joined(id, waiter.number) {
        // A read costs less than a refused write.
        Step::Read
    } else if client.notified.waiters.has_waiters(id) {
        // A try would be refused while others of this client wait.
        Step::Join
    } else {
        Step::Try
    };
    let mut shown = None;
    for _ in 0..ROUNDS_MAX {
        shown = match step {
            Step::Try | Step::Claim => {
                let place = matches!(step, Step::Claim).then_some(&*name);
                match acquire(client, id, ttl, place).await {
                    Err(LockError::Held { .. }) => {}
                    result => return result,
                }
                step = if place.is_some() { Step::Read } else { Step::Join };
                continue;
            }
            Step::Join => join(client, id, joining).await?,
            Step::Read => client.read(id, Action::Acquire).await?,
        };
        step = match &shown {
            // Its item was deleted.
            None => Step::Try,
            Some(shown) if client.is_turn(shown, waiter.number) => Step::Claim,
            Some(shown) if shown.has_place(&name) => break,
            Some(shown) if shown.is_free() => Step::Try,
            Some(shown) if shown.record.waiters.len() >= PLACES_MAX => break,
            Some(_) => Step::Join,
        };
    }
    let (turn, first) = shown.map_or((None, None), |shown| client.next(&shown));
    let own = first.filter(|(number, _)| *number == waiter.number);
    if let (Some((number, pause)), None) = (first, own) {
        client.notified.waiters.wake_in(number, pause);
    }
    joining.note(own.map(|(_, pause)| pause), turn);
    Err(LockError::Held { id: id.clone(), holder: None })
}

/// Puts the waiter at the end of the queue.
async fn join(
    client: &Arc<Client>,
    id: &LockId,
    joining: &Joining,
) -> Result<Option<Shown>, LockError> {
    // Dropped with this future: a request that was not sent by then is not sent any more.
    let caller = Arc::new(());
    let (waiter, is_there) = (joining.waiter(), Arc::downgrade(&caller));
    joining.joins();
    let call = client.call(Action::Acquire);
    let (client, id, until) = (Arc::clone(client), id.clone(), call.deadline());
    let work = async move {
        let (key, name) = (client.key(&id), waiter.to_string());
        let request = async || match is_there.upgrade() {
            Some(_) => client.commands.join(&key, &name).await,
            None => Err(Failure::abandoned()),
        };
        let joined = client.repeated(Action::Acquire, until, request).await.result;
        if is_there.strong_count() == 0 {
            // What the caller sent when it left may have come before. If this fails, the place is gone with its
            // turn.
            let _ = client.leave(&id, waiter).await;
        }
        Ok(client.move_on(&key, joined?.of, Action::Acquire, until).await)
    };
    let joined = call.run(work).await;
    drop(caller);
    joined
}

impl Client {
    /// Takes the waiter out of the queue.
    pub(crate) async fn leave(&self, id: &LockId, waiter: WaiterId) -> Result<(), LockError> {
        self.turns.take(waiter.number);
        let leaver = self.leaving.begin(id, waiter);
        // One request at a time: those of a client that leave together do so in one.
        let _permit = leaver.permit().await;
        let (until, mut pauses) = (CallDeadline::after(ALIVE_FOR), Backoff::STORE_FAILURE);
        while let Some(leaving) = leaver.all() {
            match self.remove_places(id, &leaving, until).await {
                Ok(()) => leaver.left(&leaving),
                Err(err) if err.is_retryable() && until.left() > pauses.peek() => {
                    pauses.sleep().await;
                }
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    async fn remove_places(
        &self,
        id: &LockId,
        leaving: &Names,
        until: CallDeadline,
    ) -> Result<(), LockError> {
        let leaving: BTreeSet<&str> = leaving.values().map(String::as_str).collect();
        let key = self.key(id);
        let read = self.repeated(Action::Wait, until, || self.commands.get(&key)).await;
        let mut record = read.result?.of;
        loop {
            let waiters = record.as_ref().map_or(&[][..], |record| &record.waiters);
            let places = waiters.iter().map(String::as_str).enumerate();
            let places: Vec<Place<'_>> =
                places.filter(|(_, waiter)| leaving.contains(*waiter)).take(REMOVED_MAX).collect();
            if places.is_empty() {
                break;
            }
            let remove = || self.commands.remove(&key, &places, None);
            // A refused one shows where they are by now.
            let removed = self.repeated(Action::Wait, until, remove).await.result?.of;
            record = removed;
        }
        // It may be the turn of another waiter of this client.
        if let Some(shown) = self.move_on(&key, record, Action::Wait, until).await {
            self.tell_next(&shown);
        }
        Ok(())
    }
}
