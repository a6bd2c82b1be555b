//! How a waiter sleeps until the lock may be free.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future;
use glock_core::{Action, Holder, LockError, LockId, Retry};
use tokio::time;

use crate::{
    client::{Client, Link, Route},
    watch::HEARTBEAT,
};

/// What is added to the holder's remaining time, so that the lock is gone when a sleeper is back.
const EXPIRY_SLACK: Duration = Duration::from_millis(2);
/// The longest pause between two looks of a waiter that polls; a fifth of it is the shortest.
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

/// Sleeps until a message arrives or the holder's lease expires.
async fn sleep(client: &Arc<Client>, subscriber: &Route, key: Arc<str>) -> Result<(), LockError> {
    // Before the subscription and the look, so that no release in between is missed.
    let mut sleeper = client.wakeups.subscribe(&key);
    let call = client.call(Action::Wait);
    let until = call.deadline();
    let subscribed_look = {
        let (client, subscriber) = (Arc::clone(client), subscriber.clone());
        async move {
            let link = subscriber.subscribe(&key, until).await?;
            Ok((link, client.inspect(Action::Wait, key, until).await?))
        }
    };
    let (link, holder) = call.run(subscribed_look).await?;
    if let Some(holder) = holder {
        let (woken, silent) = (pin!(sleeper.woken()), pin!(silence(client, subscriber, link)));
        let _ = time::timeout(until_expiry(&holder), future::select(woken, silent)).await;
    }
    Ok(())
}

/// Returns once no reply comes over `link`: then no message may come either.
async fn silence(client: &Client, subscriber: &Route, link: Link) {
    loop {
        time::sleep(HEARTBEAT).await;
        if !subscriber.is_alive(&link, client.call(Action::Wait).deadline()).await {
            return;
        }
    }
}

/// Looks from time to time until the lock is free, has changed hands meanwhile, or was released by
/// this client.
async fn poll(client: &Arc<Client>, key: Arc<str>) -> Result<(), LockError> {
    let mut sleeper = client.wakeups.subscribe(&key);
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
    let poll = Retry::FOREVER.with_pause_max(POLL_MAX).with_jitter_percent(POLL_JITTER_PERCENT);
    poll.pause().min(until_expiry(holder))
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
