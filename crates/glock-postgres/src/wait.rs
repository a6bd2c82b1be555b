//! Waiting: until the listener is told of a release, the holder's lease runs out, or time is up.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Fault, LockError, LockId, Retry, backend,
    toolkit::{Call, Subscription},
};
use tokio::time;

use crate::{
    listener::{Hearing, failed},
    store::Store,
};

/// How often is asked where nobody tells.
const POLL: Duration = Duration::from_millis(200);
/// The same for the moment that a connection takes.
const POLL_STARTING: Duration = Duration::from_millis(50);
const POLL_JITTER_PERCENT: u8 = 50;

/// Sleeps until the lock may be free, and at most for `max`.
pub(crate) async fn wait(store: &Arc<Store>, id: &LockId, max: Duration) -> Result<(), LockError> {
    match time::timeout(max, until_free(store, id)).await {
        Ok(result) => result,
        Err(_) => Ok(()),
    }
}

async fn until_free(store: &Arc<Store>, id: &LockId) -> Result<(), LockError> {
    let key = store.key(id);
    // In this order: sleep on the key, listen, and only then look at the lock.
    let mut sleep = store.listener.wakeups().subscribe(&key);
    let Some(mut hearing) = store.listener.hearing() else {
        return poll(&mut sleep).await;
    };
    if matches!(*hearing.borrow(), Hearing::Starting) {
        tokio::select! {
            () = sleep.woken() => return Ok(()),
            // Nothing is heard until then, so the caller had better ask.
            () = time::sleep(POLL_STARTING) => return Ok(()),
            _ = hearing.wait_for(|hearing| !matches!(hearing, Hearing::Starting)) => {}
        }
    }
    let now = hearing.borrow().clone();
    match now {
        Hearing::Good => {}
        Hearing::Starting => return Ok(()),
        Hearing::Deaf => return poll(&mut sleep).await,
        Hearing::Failed(fault, source) => {
            // Not at once: whoever asks again and again should not hammer the store.
            poll(&mut sleep).await?;
            // What may heal is no concern of the waiter, who asks meanwhile.
            return if fault == Fault::Rejected { Err(failed(fault, source)) } else { Ok(()) };
        }
    }
    let marking = {
        let store = Arc::clone(store);
        async move { store.mark(&key).await }
    };
    let call = Call::new(backend::POSTGRES, Action::Wait, store.config.call_timeout);
    if let Some(remaining) = call.run(marking).await? {
        // An expiry tells nobody.
        let _ = time::timeout(remaining, sleep.woken()).await;
    }
    Ok(())
}

/// Sleeps for a part of the polling pause; releases by this client are heard all the same.
async fn poll(sleep: &mut Subscription) -> Result<(), LockError> {
    let pause = Retry::FOREVER.with_pause_max(POLL).with_jitter_percent(POLL_JITTER_PERCENT);
    let _ = time::timeout(pause.pause(), sleep.woken()).await;
    Ok(())
}
