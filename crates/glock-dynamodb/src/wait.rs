//! Waiting without a place in the queue: reading the item now and then, until the lock is free.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, LockError, LockId, toolkit::Subscription};
use tokio::time;

use crate::{
    client::{Client, Known},
    queue::shown::Shown,
};

/// Sleeps until the lock may be free, and at most for `max`.
pub(crate) async fn wait(
    client: &Arc<Client>,
    id: &LockId,
    max: Duration,
) -> Result<(), LockError> {
    let key = client.key(id);
    let mut subscription = client.notified.sleepers.subscribe(&key);
    // A refused acquire has just read it.
    let known = client.observations.known(&key).filter(|known| !known.is_over());
    let waiting = until_free(client, id, known.as_ref(), &mut subscription);
    time::timeout(max, waiting).await.unwrap_or(Ok(()))
}

async fn until_free(
    client: &Arc<Client>,
    id: &LockId,
    known: Option<&Known>,
    subscription: &mut Subscription,
) -> Result<(), LockError> {
    let mut pause = known.map(|known| {
        let pause = client.pause(0, known.held, known.remaining);
        pause.saturating_sub(known.last_seen.elapsed())
    });
    loop {
        if let Some(pause) = pause
            && time::timeout(pause, subscription.woken()).await.is_ok()
        {
            return Ok(());
        }
        let taken = client.read(id, Action::Wait).await?.filter(|shown| !may_be_free(shown));
        let Some(shown) = taken else { return Ok(()) };
        client.tell_next(&shown);
        let place = shown.record.waiters.len();
        pause = Some(client.pause(place, shown.unchanged(), shown.ends_in(place)));
    }
}

/// Whether there is neither a waiter nor a lease that has not run out.
fn may_be_free(shown: &Shown) -> bool {
    shown.record.waiters.is_empty() && !shown.is_held()
}
