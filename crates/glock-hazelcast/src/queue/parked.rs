//! `Parks`: this client's requests that members have parked, one for each lock that is awaited.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, MutexGuard},
};

use glock_core::{LockId, toolkit::Mutex};
use tokio::{sync::Notify, task::AbortHandle};

use crate::{schema::Owner, wire::HazelcastError};

/// This client's requests that members have parked, one for each lock that is awaited.
///
/// No request takes a parked one back. So one whose waiter gave up stays for the next waiter. If
/// there is none, it is undone when it is granted.
pub(crate) struct Parks {
    requests: Arc<Mutex<HashMap<LockId, Entry>>>,
}

struct Entry {
    request: Arc<Request>,
    task: AbortHandle,
}

/// A request that is parked.
struct Request {
    owner: Owner,
    state: Mutex<State>,
    ended: Notify,
}

struct State {
    is_awaited: bool,
    has_ended: bool,
    /// Until the waiter takes it.
    outcome: Option<Outcome>,
}

/// Whether the lock was granted.
type Outcome = Result<bool, HazelcastError>;

/// A parked request that has come to its end.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) owner: Owner,
    pub(crate) outcome: Outcome,
}

/// Gives a request back when its waiter leaves.
struct Waiting<'a, U: FnMut(Parked)> {
    request: &'a Request,
    unclaimed: U,
}

impl Parks {
    pub(crate) fn new() -> Self {
        Self { requests: Arc::default() }
    }

    /// Waits for the end of the request for `id`, or of a new one as `owner`, which `park` sends. One
    /// waiter at a time. `unclaimed` gets a request that has ended without one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the request is kept for the next waiter.
    pub(crate) async fn wait<F>(
        &self,
        id: &LockId,
        owner: Owner,
        park: impl FnOnce(Owner) -> F,
        unclaimed: impl Fn(Parked) + Clone + Send + 'static,
    ) -> Parked
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let request = self.take_or_park(id, owner, park, unclaimed.clone());
        let waiting = Waiting { request: &request, unclaimed };
        loop {
            let ended = waiting.request.ended.notified();
            if let Some(outcome) = waiting.request.state.lock().outcome.take() {
                return Parked { owner: request.owner, outcome };
            }
            ended.await;
        }
    }

    /// The request that is parked for `id`, or a new one.
    fn take_or_park<F>(
        &self,
        id: &LockId,
        owner: Owner,
        park: impl FnOnce(Owner) -> F,
        unclaimed: impl Fn(Parked) + Send + 'static,
    ) -> Arc<Request>
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let mut requests = self.requests();
        if let Some(entry) = requests.get(id).filter(|entry| !entry.task.is_finished()) {
            entry.request.state.lock().is_awaited = true;
            return Arc::clone(&entry.request);
        }
        let state = Mutex::new(State { is_awaited: true, has_ended: false, outcome: None });
        let request = Arc::new(Request { owner, state, ended: Notify::new() });
        let end = End {
            requests: Arc::clone(&self.requests),
            id: id.clone(),
            request: Arc::clone(&request),
        };
        let parked = park(owner);
        let task = tokio::spawn(async move {
            let outcome = parked.await;
            if let Some(unawaited) = end.with(outcome) {
                unclaimed(unawaited);
            }
        });
        let entry = Entry { request: Arc::clone(&request), task: task.abort_handle() };
        requests.insert(id.clone(), entry);
        request
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<LockId, Entry>> {
        self.requests.lock()
    }
}

/// How a request's task ends, with its runtime too.
struct End {
    requests: Arc<Mutex<HashMap<LockId, Entry>>>,
    id: LockId,
    request: Arc<Request>,
}

impl End {
    /// Gives the outcome to the waiter. Returns it if there is none.
    fn with(self, outcome: Outcome) -> Option<Parked> {
        let mut requests = self.requests.lock();
        let mut state = self.request.state.lock();
        self.remove_from(&mut requests);
        state.has_ended = true;
        if !state.is_awaited {
            return Some(Parked { owner: self.request.owner, outcome });
        }
        state.outcome = Some(outcome);
        None
    }

    fn remove_from(&self, requests: &mut HashMap<LockId, Entry>) {
        if requests.get(&self.id).is_some_and(|entry| Arc::ptr_eq(&entry.request, &self.request)) {
            requests.remove(&self.id);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut requests = self.requests.lock();
        self.remove_from(&mut requests);
        let mut state = self.request.state.lock();
        if !state.has_ended {
            state.has_ended = true;
            let lost = HazelcastError::ReplyLost("the runtime was shut down".into());
            state.outcome = Some(Err(lost));
        }
        drop(state);
        self.request.ended.notify_waiters();
    }
}

impl<U: FnMut(Parked)> Drop for Waiting<'_, U> {
    fn drop(&mut self) {
        let mut state = self.request.state.lock();
        state.is_awaited = false;
        let outcome = state.outcome.take();
        drop(state);
        if let Some(outcome) = outcome {
            (self.unclaimed)(Parked { owner: self.request.owner, outcome });
        }
    }
}

/// A request that is parked would keep its connection open.
impl Drop for Parks {
    fn drop(&mut self) {
        let entries: Vec<_> = self.requests().drain().map(|(_, entry)| entry).collect();
        for entry in entries {
            entry.task.abort();
        }
    }
}

impl fmt::Debug for Parks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parks").field("requests", &self.requests().len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering::SeqCst},
        time::Duration,
    };

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::wire::Uuid;

    const SECOND: Duration = Duration::from_secs(1);

    fn owner() -> Owner {
        Owner::new(Uuid::new(1)).unwrap()
    }

    /// Waits for a request that is granted after `after`. Counts those that no caller waited for.
    async fn wait(parks: &Parks, after: Duration, unclaimed: &Arc<AtomicU32>) -> Parked {
        let park = |_| async move {
            sleep(after).await;
            Ok(true)
        };
        let unclaimed = Arc::clone(unclaimed);
        let count = move |_| {
            unclaimed.fetch_add(1, SeqCst);
        };
        parks.wait(&LockId::new("x").unwrap(), owner(), park, count).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_waiter_takes_over_the_request_of_one_that_gave_up() {
        let (parks, unclaimed) = (Parks::new(), Arc::new(AtomicU32::new(0)));
        assert!(timeout(SECOND, wait(&parks, SECOND * 3, &unclaimed)).await.is_err());
        let parked = timeout(SECOND * 5 / 2, wait(&parks, SECOND * 60, &unclaimed)).await;
        assert!(parked.unwrap().outcome.unwrap());
        assert_eq!(unclaimed.load(SeqCst), 0);
        assert!(parks.requests().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_nobody_waits_for_is_unclaimed_once() {
        let (parks, unclaimed) = (Parks::new(), Arc::new(AtomicU32::new(0)));
        for _ in 0..3 {
            assert!(timeout(SECOND / 10, wait(&parks, SECOND, &unclaimed)).await.is_err());
        }
        sleep(SECOND).await;
        assert_eq!(unclaimed.load(SeqCst), 1);
        // One that ended just before its waiter left.
        let mut waiting = Box::pin(wait(&parks, Duration::ZERO, &unclaimed));
        assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
        sleep(SECOND).await;
        drop(waiting);
        assert_eq!(unclaimed.load(SeqCst), 2);
    }
}
