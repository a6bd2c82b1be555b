//! `Store`: one lock and its queue.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use glock_core::{
    Action, Fault, FencingToken, Lease, LockError, LockId, OwnerToken, Retry, backend,
    toolkit::{
        Joining, Listening, LockStatus, LockWaiters, Mutex, PendingWork, QueueStore, RecordQueue,
        WaiterId, WaiterRegistry,
    },
};
use tokio::time::{Instant, sleep};

pub(crate) const TTL: Duration = Duration::from_secs(10);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// One lock with its queue. Another owner holds it until a test says otherwise.
#[derive(Clone, Default)]
pub(crate) struct Store(pub(crate) Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) is_free: bool,
    pub(crate) queue: VecDeque<u64>,
    pub(crate) reserved: Option<u64>,
    /// What the store replies to the first waiter.
    pub(crate) free_in: Option<Duration>,
    pub(crate) listening: bool,
    pub(crate) down: Option<Fault>,
    /// The request to join is followed by one that fails.
    pub(crate) fails_once_joined: bool,
    /// The requests, one letter each: enter, leave, heartbeat.
    sent: String,
    pub(crate) beats: Vec<LockWaiters>,
}

impl Store {
    pub(crate) fn queue(&self) -> (Arc<RecordQueue<Self>>, WaiterRegistry, PendingWork) {
        let (registry, pending) = (WaiterRegistry::new(), PendingWork::new());
        (RecordQueue::new(self.clone(), registry.clone(), &pending), registry, pending)
    }

    pub(crate) fn sent(&self) -> String {
        self.0.lock().sent.clone()
    }

    /// Reserves the lock for the first waiter, without notifying it.
    pub(crate) fn release(&self) -> Option<u64> {
        let mut state = self.0.lock();
        state.reserved = state.queue.pop_front();
        state.is_free = state.reserved.is_none();
        state.reserved
    }

    fn request(&self, letter: char) -> Result<(), LockError> {
        let mut state = self.0.lock();
        state.sent.push(letter);
        match state.down {
            Some(fault) => Err(LockError::backend(backend::MEMORY, Action::Wait, fault, "down")),
            None => Ok(()),
        }
    }
}

impl QueueStore for Store {
    async fn enter(
        &self,
        id: &LockId,
        ttl: Duration,
        joining: &Joining,
    ) -> Result<Lease, LockError> {
        self.request('e')?;
        let waiter = joining.waiter();
        let mut state = self.0.lock();
        if state.is_free || state.reserved == Some(waiter.number) {
            (state.is_free, state.reserved) = (false, None);
            let (owner, fence) = (OwnerToken::random()?, FencingToken::new(1));
            return Ok(Lease::granted(id.clone(), owner, fence, Instant::now(), ttl));
        }
        if !state.queue.contains(&waiter.number) {
            state.queue.push_back(waiter.number);
        }
        if mem::take(&mut state.fails_once_joined) {
            joining.joins();
            let fault = Fault::Unavailable;
            return Err(LockError::backend(backend::MEMORY, Action::Acquire, fault, "down"));
        }
        let is_first = state.queue.front() == Some(&waiter.number);
        joining.note(state.free_in.filter(|_| is_first), None);
        Err(LockError::Held { id: id.clone(), holder: None })
    }

    async fn listen(&self, _id: &LockId) -> Result<Listening, LockError> {
        let before = mem::replace(&mut self.0.lock().listening, true);
        Ok(if before { Listening::Already } else { Listening::Began })
    }

    async fn leave(&self, _id: &LockId, waiter: WaiterId) -> Result<(), LockError> {
        self.request('l')?;
        self.0.lock().queue.retain(|number| *number != waiter.number);
        Ok(())
    }

    async fn heartbeat(&self, locks: &[LockWaiters]) -> Result<Vec<LockStatus>, LockError> {
        self.request('h')?;
        let mut state = self.0.lock();
        state.beats.extend(locks.iter().cloned());
        let found = locks.iter().map(|lock| {
            let turn = state.reserved.filter(|number| lock.numbers.contains(number));
            lock.status(turn, None, state.queue.iter().copied())
        });
        Ok(found.collect())
    }
}

pub(crate) fn id() -> LockId {
    LockId::new("x").unwrap()
}

pub(crate) type Waiting = tokio::task::JoinHandle<Result<Lease, LockError>>;

pub(crate) fn wait(queue: &Arc<RecordQueue<Store>>, retry: Retry) -> Waiting {
    let queue = Arc::clone(queue);
    tokio::spawn(async move { queue.acquire(&id(), TTL, &retry).await })
}

/// A store whose client listens, and a waiter in its queue.
pub(crate) async fn waiting() -> (Store, Arc<RecordQueue<Store>>, WaiterRegistry, Waiting) {
    let store = Store::default();
    store.0.lock().listening = true;
    let (queue, registry, _) = store.queue();
    let waiter = wait(&queue, Retry::FOREVER);
    sleep(SECOND / 10).await;
    (store, queue, registry, waiter)
}
