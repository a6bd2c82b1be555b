//! Waiting until a release is notified, the holder's lease runs out, or time is up.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, LockError, LockId, Retry, toolkit::Subscription};
use tokio::time;

use crate::client::{Client, ListenerStatus};

/// The longest pause between two acquires where no notification arrives.
const POLL: Duration = Duration::from_millis(200);
/// The same while a connection is made.
const POLL_CONNECTING: Duration = Duration::from_millis(50);
/// How often a waiter looks whether the task that listens goes on.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
const POLL_JITTER_PERCENT: u8 = 50;

/// Sleeps until the lock may be free, and at most for `max`.
pub(crate) async fn wait(
    client: &Arc<Client>,
    id: &LockId,
    max: Duration,
) -> Result<(), LockError> {
    tokio::select! {
        // Biased, because a wait on a closed pool has nothing to wait for.
        biased;
        failure = client.connections.closed() => Err(failure.during(Action::Wait)),
        waited = time::timeout(max, until_free(client, id)) => waited.unwrap_or(Ok(())),
    }
}

async fn until_free(client: &Arc<Client>, id: &LockId) -> Result<(), LockError> {
    let key = client.key(id);
    // In this order: subscribe, listen, and only then look at the lock.
    let mut subscription = client.notified.sleepers.subscribe(&key);
    let Some(mut status) = client.listener.status() else {
        poll(&mut subscription).await;
        return Ok(());
    };
    let connecting = |status: &ListenerStatus| matches!(status, ListenerStatus::Connecting);
    if connecting(&status.borrow()) {
        tokio::select! {
            () = subscription.woken() => return Ok(()),
            // No notification arrives until then, so the caller tries meanwhile.
            () = time::sleep(POLL_CONNECTING) => return Ok(()),
            _ = status.wait_for(|status| !connecting(status)) => {}
        }
    }
    let now = status.borrow().clone();
    match now {
        ListenerStatus::Connecting => {}
        ListenerStatus::Listening if client.listener.is_stalled() => poll(&mut subscription).await,
        ListenerStatus::Listening => until_notified(client, key, &mut subscription).await?,
        ListenerStatus::Silent => poll(&mut subscription).await,
        ListenerStatus::Failed(..) => {
            // Not at once: a caller that waits again and again must not hammer the store.
            poll(&mut subscription).await;
            // What may pass is no concern of the waiter, whose caller tries meanwhile.
            return client.listener.rejected().map_or(Ok(()), Err);
        }
    }
    Ok(())
}

async fn until_notified(
    client: &Arc<Client>,
    key: String,
    subscription: &mut Subscription,
) -> Result<(), LockError> {
    let call = client.call(Action::Wait);
    let set_waited = {
        let (client, until) = (Arc::clone(client), call.deadline());
        async move {
            let remaining = client.commands.set_waited(&key, until).await;
            remaining.map_err(|failure| failure.during(Action::Wait))
        }
    };
    if let Some(remaining) = call.run(set_waited).await? {
        // An expiry notifies no waiter.
        let woken = until_woken(client, subscription);
        let _ = time::timeout(remaining, woken).await;
    }
    Ok(())
}

/// Sleeps until a notification arrives, or until none can: the runtime of the task that listens is busy.
async fn until_woken(client: &Client, subscription: &mut Subscription) {
    let mut was_stalled = false;
    while time::timeout(LOOK_PAUSE, subscription.woken()).await.is_err() {
        // Twice: after a pause of this runtime itself, the task has not looked yet.
        let is_stalled = client.listener.is_stalled();
        if is_stalled && was_stalled {
            return;
        }
        was_stalled = is_stalled;
    }
}

/// Sleeps for a part of the polling pause; a release by this client ends it early.
async fn poll(subscription: &mut Subscription) {
    let _ = time::timeout(poll_pause(), subscription.woken()).await;
}

/// How long the pause between two looks of a client is that no notification reaches.
pub(crate) fn poll_pause() -> Duration {
    Retry::FOREVER.with_pause_max(POLL).with_jitter_percent(POLL_JITTER_PERCENT).pause()
}
