//! Waiting until a release is reported, the holder's lease runs out, or time is up.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, LockError, LockId, Retry, toolkit::Subscription};
use tokio::time;

use crate::{client::Client, commands::Look, watch::WatchStatus};

/// What is added to the holder's remaining time, so that the lease is over when a waiter is back: the
/// server counts in whole milliseconds.
const EXPIRY_SLACK: Duration = Duration::from_millis(2);
/// The longest pause between two acquires where no release is reported.
const POLL: Duration = Duration::from_millis(200);
/// The same while the stream is opened.
const POLL_OPENING: Duration = Duration::from_millis(50);
const POLL_JITTER_PERCENT: u8 = 50;

/// Sleeps until the lock may be free, and at most for `max`.
pub(crate) async fn wait(
    client: &Arc<Client>,
    id: &LockId,
    max: Duration,
) -> Result<(), LockError> {
    time::timeout(max, until_free(client, id)).await.unwrap_or(Ok(()))
}

async fn until_free(client: &Arc<Client>, id: &LockId) -> Result<(), LockError> {
    let key = client.schema.key(id);
    let runtime = client.driver.runtime().map_err(|failure| failure.during(Action::Wait))?;
    // In this order: subscribe, watch, and only then look at the lock.
    let mut subscription = client.notified.sleepers.subscribe(&key);
    let Some(mut status) = client.releases.status(&runtime) else {
        return poll(client, key, &mut subscription).await;
    };
    let opening = |status: &WatchStatus| matches!(status, WatchStatus::Opening);
    if opening(&status.borrow()) {
        tokio::select! {
            () = subscription.woken() => return Ok(()),
            // No release is reported until then, so the caller tries meanwhile.
            () = time::sleep(POLL_OPENING) => return Ok(()),
            _ = status.wait_for(|status| !opening(status)) => {}
        }
    }
    let now = status.borrow().clone();
    match now {
        WatchStatus::Opening => {}
        WatchStatus::Open => until_reported(client, key, &mut subscription).await?,
        WatchStatus::Unsupported => poll(client, key, &mut subscription).await?,
        WatchStatus::Failed(..) => {
            // Not at once: a caller that waits again and again must not hammer the store.
            pause(&mut subscription, POLL).await;
            // What may pass is no concern of the waiter, whose caller tries meanwhile.
            return client.releases.rejected().map_or(Ok(()), Err);
        }
    }
    Ok(())
}

async fn until_reported(
    client: &Arc<Client>,
    key: String,
    subscription: &mut Subscription,
) -> Result<(), LockError> {
    if let Some(remaining) = look(client, key).await? {
        // An expiry is not reported.
        let _ = time::timeout(remaining, subscription.woken()).await;
    }
    Ok(())
}

/// Sleeps for a part of the polling pause, and never longer than the holder's lease.
async fn poll(
    client: &Arc<Client>,
    key: String,
    subscription: &mut Subscription,
) -> Result<(), LockError> {
    if let Some(remaining) = look(client, key).await? {
        pause(subscription, POLL.min(remaining)).await;
    }
    Ok(())
}

/// A release by this client ends the pause early.
async fn pause(subscription: &mut Subscription, longest: Duration) {
    let _ = time::timeout(jittered(longest), subscription.woken()).await;
}

/// How long the pause between two looks of a client is that no stream wakes.
pub(crate) fn poll_pause() -> Duration {
    jittered(POLL)
}

fn jittered(longest: Duration) -> Duration {
    Retry::FOREVER.with_pause_max(longest).with_jitter_percent(POLL_JITTER_PERCENT).pause()
}

/// How long the caller may sleep: while the lock is held or reserved, for a moment while a waiter is before
/// the caller, and not at all (`None`) if the lock is free.
async fn look(client: &Arc<Client>, key: String) -> Result<Option<Duration>, LockError> {
    let call = client.call(Action::Wait)?;
    let (client, until) = (Arc::clone(client), call.deadline());
    let seen = call.run(async move { client.commands.look(&key, until).await }).await?;
    Ok(match seen {
        Look::Taken { left } => Some(left.saturating_add(EXPIRY_SLACK)),
        Look::WaitedFor => Some(jittered(POLL)),
        Look::Free => None,
    })
}
