//! `Watch`: how a member notifies this client that a key was unlocked.

use std::{collections::HashMap, fmt, sync::Arc};

use glock_core::toolkit::{Backoff, CallDeadline, Mutex, Subscription, Wakeups};
use tokio::task::AbortHandle;

use crate::{
    client::{ClientSession, Link},
    wire::{HazelcastError, Request},
};

/// How a member notifies this client that a key was unlocked. A request that would write to the key, and
/// never does, is parked until then: one for each key that is awaited.
#[derive(Default)]
pub(crate) struct Watch {
    wakeups: Wakeups,
    tasks: Mutex<HashMap<String, AbortHandle>>,
}

/// Pauses while no member can be reached.
const PAUSES: Backoff = Backoff::STORE_FAILURE;

impl Watch {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Sleeps until `key` is unlocked, from now on. `request` is what a member parks until then.
    pub(crate) fn on_unlock(
        &self,
        key: &str,
        session: &Arc<ClientSession>,
        call_timeout: std::time::Duration,
        request: impl Fn(&Link) -> Request + Send + Sync + 'static,
    ) -> Subscription {
        let subscription = self.wakeups.subscribe(key);
        let mut tasks = self.tasks.lock();
        tasks.retain(|_, task| !task.is_finished());
        if !tasks.contains_key(key) {
            let (wakeups, session, name) =
                (self.wakeups.clone(), Arc::clone(session), key.to_owned());
            let task = tokio::spawn(async move {
                let mut pauses = PAUSES;
                while wakeups.is_awaited(&name) {
                    let until = CallDeadline::after(call_timeout);
                    match parked(&session, until, &request).await {
                        Ok(()) => break,
                        Err(_) => pauses.sleep().await,
                    }
                }
                // Whatever it was, the waiters look.
                wakeups.wake(&name);
            });
            tasks.insert(key.to_owned(), task.abort_handle());
        }
        subscription
    }
}

/// Returns once a member has replied to the request that it parks.
async fn parked(
    session: &ClientSession,
    until: CallDeadline,
    request: impl Fn(&Link) -> Request + Sync,
) -> Result<(), HazelcastError> {
    let (_link, reply) = session.send(until, |link| link.send(request(link))).await?;
    reply.await?.reply_to(crate::wire::map::REMOVE_IF_SAME).map(drop)
}

/// A request that is parked would keep its connection open.
impl Drop for Watch {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().values() {
            task.abort();
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("awaited", &self.wakeups.len()).finish_non_exhaustive()
    }
}
