//! A waiter in a queue that the store keeps beside the lock: what it sends, and when.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use glock_core::{
    Action, Fault, FencingToken, Lease, LockError, LockId, OwnerToken, Retry, backend,
    toolkit::{
        Joining, Listening, LockStatus, LockWaiters, Mutex, PendingWork, QueueStore, RESERVED_FOR,
        RecordQueue, WaiterId, WaiterRegistry,
    },
};
use tokio::time::{Instant, sleep, timeout};

const TTL: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// One lock with its queue. Another owner holds it until a test says otherwise.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_free: bool,
    queue: VecDeque<u64>,
    reserved: Option<u64>,
    /// What the store replies to the first waiter.
    free_in: Option<Duration>,
    listening: bool,
    down: Option<Fault>,
    /// The requests, one letter each: enter, leave, heartbeat.
    sent: String,
    beats: Vec<LockWaiters>,
}

impl Store {
    fn queue(&self) -> (Arc<RecordQueue<Self>>, WaiterRegistry, PendingWork) {
        let (registry, pending) = (WaiterRegistry::new(), PendingWork::new());
        (RecordQueue::new(self.clone(), registry.clone(), &pending), registry, pending)
    }

    fn sent(&self) -> String {
        self.0.lock().sent.clone()
    }

    /// Reserves the lock for the first waiter, without notifying it.
    fn release(&self) -> Option<u64> {
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
        let is_first = state.queue.front() == Some(&waiter.number);
        joining.note(state.free_in.filter(|_| is_first), None);
        Err(LockError::Held { id: id.clone(), holder: None })
    }

    async fn listen(&self, _id: &LockId) -> Result<Listening, LockError> {
        let before = std::mem::replace(&mut self.0.lock().listening, true);
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

fn id() -> LockId {
    LockId::new("x").unwrap()
}

type Waiting = tokio::task::JoinHandle<Result<Lease, LockError>>;

fn wait(queue: &Arc<RecordQueue<Store>>, retry: Retry) -> Waiting {
    let queue = Arc::clone(queue);
    tokio::spawn(async move { queue.acquire(&id(), TTL, &retry).await })
}

/// A store whose client listens, and a waiter in its queue.
async fn waiting() -> (Store, Arc<RecordQueue<Store>>, WaiterRegistry, Waiting) {
    let store = Store::default();
    store.0.lock().listening = true;
    let (queue, registry, _) = store.queue();
    let waiter = wait(&queue, Retry::FOREVER);
    sleep(SECOND / 10).await;
    (store, queue, registry, waiter)
}

#[tokio::test(start_paused = true)]
async fn a_free_lock_takes_one_request_and_no_heartbeat() {
    let store = Store::default();
    store.0.lock().is_free = true;
    let (queue, registry, pending) = store.queue();
    assert!(queue.acquire(&id(), TTL, &Retry::within(Duration::ZERO)).await.is_ok());
    sleep(SECOND * 10).await;
    assert_eq!(store.sent(), "e");
    assert!(registry.is_empty() && pending.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_sends_one_request_to_join_and_one_to_claim() {
    let (store, _queue, registry, waiter) = waiting().await;
    let number = store.release().unwrap();
    registry.turn(number);
    let _granted = waiter.await.unwrap().unwrap();
    assert_eq!(store.sent(), "ee");
    sleep(SECOND * 10).await;
    assert_eq!(store.sent(), "ee", "no heartbeat without waiters");
}

#[tokio::test(start_paused = true)]
async fn one_heartbeat_a_second_is_for_all_waiters_of_a_client() {
    let store = Store::default();
    store.0.lock().listening = true;
    let (queue, _, _) = store.queue();
    let waiters: Vec<_> = (0..100).map(|_| wait(&queue, Retry::FOREVER)).collect();
    sleep(SECOND * 30).await;
    let beats = store.sent().matches('h').count();
    assert!((25..=31).contains(&beats), "{beats}");
    assert_eq!(store.sent().matches('e').count(), waiters.len(), "no request of its own");
    let last = store.0.lock().beats.last().cloned().unwrap();
    assert_eq!(BTreeSet::from_iter(last.numbers).len(), waiters.len());
}

#[tokio::test(start_paused = true)]
async fn a_turn_whose_notification_was_lost_is_found_by_the_next_heartbeat() {
    let (store, _queue, _, waiter) = waiting().await;
    store.release();
    assert!(timeout(RESERVED_FOR, waiter).await.unwrap().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_interruption_of_notifications_is_looked_into_at_once() {
    let (store, _queue, registry, waiter) = waiting().await;
    store.release();
    registry.missed();
    assert!(timeout(SECOND / 10, waiter).await.unwrap().unwrap().is_ok());
    assert_eq!(store.sent(), "ehe");
}

/// What was notified before is missed.
#[tokio::test(start_paused = true)]
async fn the_first_waiter_looks_again_once_the_client_listens() {
    let store = Store::default();
    let (queue, _, _) = store.queue();
    let _waiter = wait(&queue, Retry::FOREVER);
    sleep(SECOND / 10).await;
    assert_eq!(store.sent(), "eh");
}

#[tokio::test(start_paused = true)]
async fn only_the_first_waiter_wakes_when_the_hold_runs_out() {
    let store = Store::default();
    (store.0.lock().listening, store.0.lock().free_in) = (true, Some(SECOND / 2));
    let (queue, _, _) = store.queue();
    let waiters: Vec<_> = (0..10).map(|_| wait(&queue, Retry::FOREVER)).collect();
    sleep(SECOND / 4).await;
    assert_eq!(store.sent().len(), waiters.len());
    store.0.lock().free_in = None;
    sleep(SECOND / 2).await;
    assert_eq!(store.sent().len(), waiters.len() + 1);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_gives_up_leaves() {
    let (store, queue, registry, cancelled) = waiting().await;
    let timed_out = wait(&queue, Retry::within(SECOND / 10));
    assert!(matches!(timed_out.await.unwrap(), Err(LockError::Timeout { .. })));
    cancelled.abort();
    let _ = cancelled.await;
    sleep(SECOND / 10).await;
    assert_eq!((store.sent().matches('l').count(), store.0.lock().queue.len()), (2, 0));
    assert!(registry.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_is_pending_work() {
    let store = Store::default();
    let (queue, _, pending) = store.queue();
    let (id, retry) = (id(), Retry::FOREVER);
    let mut waiter = Box::pin(queue.acquire(&id, TTL, &retry));
    assert!(timeout(SECOND / 10, &mut waiter).await.is_err());
    drop(waiter);
    assert_eq!(pending.len(), 1);
    assert_eq!(pending.drained(SECOND).await, 0);
    assert!(store.sent().ends_with('l'));
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_place_is_lost_joins_again() {
    let (store, _queue, registry, waiter) = waiting().await;
    store.0.lock().queue.clear();
    sleep(SECOND * 2).await;
    let number = store.release().expect("it has joined again");
    registry.turn(number);
    assert!(timeout(SECOND, waiter).await.unwrap().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_ends_no_wait_and_is_what_the_time_limit_reports() {
    let (store, queue, _, waiter) = waiting().await;
    let limited = wait(&queue, Retry::within(SECOND * 20));
    sleep(SECOND / 10).await;
    store.0.lock().down = Some(Fault::Unavailable);
    let sent_before = store.sent().len();
    let err = limited.await.unwrap().unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "{err:?}");
    let sent = store.sent().split_off(sent_before);
    assert!(sent.len() <= 25, "waiters do not hammer it: {sent}");
    store.0.lock().down = None;
    store.release();
    assert!(timeout(SECOND * 5, waiter).await.unwrap().unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_the_store_will_not_do_ends_a_wait() {
    let (store, _queue, _, waiter) = waiting().await;
    store.0.lock().down = Some(Fault::Rejected);
    let err = timeout(SECOND * 5, waiter).await.unwrap().unwrap().unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected), "{err:?}");
}

/// The runtime that sends the heartbeats computes, and does not get to it.
#[tokio::test]
async fn heartbeats_go_on_where_another_waiter_is_awake() {
    let store = Store::default();
    store.0.lock().listening = true;
    let (queue, ..) = store.queue();
    let (end, until) = std::sync::mpsc::channel::<()>();
    let computes = std::thread::spawn({
        let queue = Arc::clone(&queue);
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let _waiter = wait(&queue, Retry::FOREVER);
                sleep(SECOND / 10).await;
                // It blocks the thread.
                let _ = until.recv();
            });
        }
    });
    while store.sent().is_empty() {
        sleep(SECOND / 100).await;
    }
    let _waiter = wait(&queue, Retry::FOREVER);
    let two = async {
        while store.sent().matches('h').count() < 2 {
            sleep(SECOND / 10).await;
        }
    };
    timeout(SECOND * 30, two).await.expect("no heartbeat");
    drop(end);
    computes.join().unwrap();
}
