//! Waiting until a lock is free, or time is up.

use std::{sync::Arc, time::Duration};

use glock_core::{Action, LockError, LockId};
use tokio::time;

use crate::{client::Client, error::Failure};

/// How often a waiter looks whether the task that watches the file goes on.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Sleeps until the lock may be free, and at most for `max`.
pub(crate) async fn wait(
    client: &Arc<Client>,
    id: &LockId,
    max: Duration,
) -> Result<(), LockError> {
    let key = client.key(id);
    // The task looks at the lock after this, and wakes the waiter if it is free.
    let mut subscription = client.watch.subscribe(&key);
    let woken = async {
        let mut was_stalled = false;
        while time::timeout(LOOK_PAUSE, subscription.woken()).await.is_err() {
            // Twice: after a pause of this runtime itself, the task has not looked yet.
            let is_stalled = client.watch.is_stalled();
            if is_stalled && was_stalled {
                client.watch.restart();
            }
            was_stalled = is_stalled;
        }
        client.watch.failure()
    };
    match time::timeout(max, woken).await {
        Ok(Some((fault, cause))) => Err(Failure::new(fault, cause).during(Action::Wait)),
        Ok(None) | Err(_) => Ok(()),
    }
}
