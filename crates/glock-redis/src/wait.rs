//! How a caller without a place in the queue sleeps until the lock may be free.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, Holder, LockError, LockId, Retry};
use tokio::time;

use crate::client::{Client, Route};

/// What is added to the holder's remaining time, so that the lock is gone when a sleeper is back.
const EXPIRY_SLACK: Duration = Duration::from_millis(2);
/// The longest that a sleeper relies on one request: the server notifies it once, and forgets that it
/// wants to be notified some seconds later. A connection that is silent is found out, too.
const WATCH_MAX: Duration = Duration::from_secs(3);
/// The longest pause between two looks of a sleeper that polls; a fifth of it is the shortest.
const POLL_MAX: Duration = Duration::from_millis(250);
const POLL_JITTER_PERCENT: u8 = 80;

/// Sleeps until the lock may be free, and at most for `max`.
pub(crate) async fn wait(
    client: &Arc<Client>,
    id: &LockId,
    max: Duration,
) -> Result<(), LockError> {
    let key = client.schema.key(id).into();
    let slept = async {
        match &client.subscriber {
            Some(subscriber) => sleep(client, subscriber, key).await,
            None => poll(client, key).await,
        }
    };
    time::timeout(max, slept).await.unwrap_or(Ok(()))
}

/// How long the pause between two looks of a client is that no message reaches.
pub(crate) fn poll_pause() -> Duration {
    Retry::FOREVER.with_pause_max(POLL_MAX).with_jitter_percent(POLL_JITTER_PERCENT).pause()
}

/// Sleeps until a message arrives or the holder's lease expires.
async fn sleep(client: &Arc<Client>, subscriber: &Route, key: Arc<str>) -> Result<(), LockError> {
    // Before the subscription and the request, so that no release in between is missed.
    let mut sleeper = client.notified.sleepers.subscribe(&key);
    loop {
        let call = client.call(Action::Wait);
        let until = call.deadline();
        let watched = {
            let (client, subscriber) = (Arc::clone(client), subscriber.clone());
            let key = Arc::clone(&key);
            async move {
                subscriber.subscribe(&key, until).await?;
                client.watch(&key, until).await
            }
        };
        let Some(left) = call.run(watched).await? else { return Ok(()) };
        let until_expiry = left.saturating_add(EXPIRY_SLACK);
        let asleep = time::timeout(until_expiry.min(WATCH_MAX), sleeper.woken()).await;
        if asleep.is_ok() || until_expiry <= WATCH_MAX {
            return Ok(());
        }
    }
}

/// Looks from time to time until the lock is free, has changed hands meanwhile, or was released by
/// this client.
async fn poll(client: &Arc<Client>, key: Arc<str>) -> Result<(), LockError> {
    let mut sleeper = client.notified.sleepers.subscribe(&key);
    let mut first = None;
    loop {
        let call = client.call(Action::Wait);
        let look = Arc::clone(client).inspect(Action::Wait, Arc::clone(&key), call.deadline());
        let Some(holder) = call.run(look).await? else { return Ok(()) };
        if *first.get_or_insert(holder.fence) != holder.fence {
            return Ok(());
        }
        if time::timeout(until_next_look(&holder), sleeper.woken()).await.is_ok() {
            return Ok(());
        }
    }
}

/// How long to sleep at most before the lock is worth a try.
fn until_expiry(holder: &Holder) -> Duration {
    holder.remaining.map_or(Duration::MAX, |left| left.saturating_add(EXPIRY_SLACK))
}

/// How long to sleep between two looks.
fn until_next_look(holder: &Holder) -> Duration {
    poll_pause().min(until_expiry(holder))
}

#[cfg(test)]
mod tests {
    use glock_core::FencingToken;

    use super::*;

    #[test]
    fn a_poller_looks_every_50_to_250_ms_and_never_later_than_the_expiry() {
        let millis = Duration::from_millis;
        let lasting = Holder::new("w", FencingToken::new(1));
        let ending = lasting.clone().with_remaining(Some(millis(20)));
        for _ in 0..1_000 {
            assert!((millis(50)..=millis(250)).contains(&until_next_look(&lasting)));
            assert_eq!(until_next_look(&ending), millis(22));
        }
        assert_eq!(until_expiry(&lasting), Duration::MAX);
    }
}
