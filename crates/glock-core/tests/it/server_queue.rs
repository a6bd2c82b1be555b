//! A waiter in a queue that the store keeps: joins once, keeps its entry, and leaves nothing behind.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use glock_core::{
    Action, Fault, FencingToken, Lease, LockError, LockId, OwnerToken, Retry, backend,
    toolkit::{Mutex, QueueStep, ServerQueue, WaitQueue, acquire_queued},
};
use tokio::time::{self, Instant};

const TTL: Duration = Duration::from_secs(10);

/// What the store does next.
#[derive(Clone, Copy)]
enum Next {
    Grant,
    Move,
    Lose,
    Fail(Fault),
    Hang,
}

/// A queue whose replies a test writes down, and which requests it received.
#[derive(Default)]
struct Scripted {
    next: Mutex<VecDeque<Next>>,
    local_waiters: bool,
    /// From this join on, the store does not reply.
    hangs_at_join: Option<u32>,
    tries: AtomicU32,
    joins: AtomicU32,
    entries: Arc<AtomicU32>,
}

/// An entry of the queue, counted while it is there.
struct Entry(Arc<AtomicU32>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Scripted {
    fn new(next: impl IntoIterator<Item = Next>) -> Self {
        Self { next: Mutex::new(next.into_iter().collect()), ..Self::default() }
    }

    async fn acquire(&self, retry: Retry) -> Result<Lease, LockError> {
        acquire_queued(self, &WaitQueue::new(), &id(), &retry).await
    }

    fn joins(&self) -> u32 {
        self.joins.load(SeqCst)
    }
}

fn id() -> LockId {
    LockId::new("x").unwrap()
}

fn failed(fault: Fault) -> LockError {
    LockError::backend(backend::MEMORY, Action::Wait, fault, "scripted")
}

impl ServerQueue for Scripted {
    type Entry = Entry;

    fn has_local_waiters(&self) -> bool {
        self.local_waiters
    }

    async fn try_acquire(&self) -> Result<Lease, LockError> {
        self.tries.fetch_add(1, SeqCst);
        Err(LockError::Held { id: id(), holder: None })
    }

    async fn join(&self) -> Result<Entry, LockError> {
        let joins = self.joins.fetch_add(1, SeqCst);
        if self.hangs_at_join.is_some_and(|hangs_at| joins >= hangs_at) {
            std::future::pending::<()>().await;
        }
        self.entries.fetch_add(1, SeqCst);
        Ok(Entry(Arc::clone(&self.entries)))
    }

    async fn next(&self, _entry: &mut Entry) -> Result<QueueStep, LockError> {
        let next = self.next.lock().pop_front();
        match next.unwrap_or(Next::Hang) {
            Next::Grant => {
                let (owner, fence) = (OwnerToken::random()?, FencingToken::new(1));
                Ok(QueueStep::Granted(Lease::granted(id(), owner, fence, Instant::now(), TTL)))
            }
            Next::Move => Ok(QueueStep::Waiting),
            Next::Lose => Ok(QueueStep::Lost),
            Next::Fail(fault) => Err(failed(fault)),
            Next::Hang => std::future::pending().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_tries_once_then_stays_in_the_queue() {
    let queue = Scripted::new([Next::Move, Next::Move, Next::Grant]);
    assert!(queue.acquire(Retry::FOREVER).await.is_ok());
    assert_eq!((queue.tries.load(SeqCst), queue.joins()), (1, 1));
    assert_eq!(queue.entries.load(SeqCst), 0, "the entry became the hold");
}

#[tokio::test(start_paused = true)]
async fn no_try_is_sent_while_other_waiters_of_this_client_are_in_the_queue() {
    let queue = Scripted { local_waiters: true, ..Scripted::new([Next::Grant]) };
    assert!(queue.acquire(Retry::FOREVER).await.is_ok());
    assert_eq!(queue.tries.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn an_entry_is_kept_over_failures_and_joined_again_once_it_is_lost() {
    let fail = Next::Fail(Fault::Unavailable);
    let queue = Scripted::new([fail, fail, Next::Move, Next::Lose, fail, Next::Grant]);
    assert!(queue.acquire(Retry::FOREVER).await.is_ok());
    assert_eq!(queue.joins(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_another_try_cannot_mend_ends_the_wait() {
    let queue = Scripted::new([Next::Fail(Fault::Rejected)]);
    let err = queue.acquire(Retry::FOREVER).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Rejected));
    assert_eq!(queue.entries.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_limit_says_what_the_store_said_last() {
    let retry = Retry::within(Duration::from_secs(5));
    let (queue, began) = (Scripted::new([Next::Move]), Instant::now());
    let err = queue.acquire(retry).await.unwrap_err();
    assert!(matches!(err, LockError::Timeout { .. }), "{err:?}");
    assert_eq!(began.elapsed(), Duration::from_secs(5));
    assert_eq!(queue.entries.load(SeqCst), 0, "a waiter that gives up leaves the queue");
    let down = Scripted::new([Next::Fail(Fault::Unavailable); 1_000]);
    let err = down.acquire(retry).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable));
    let gone = [Next::Fail(Fault::Unavailable), Next::Lose];
    let gone = Scripted { hangs_at_join: Some(1), ..Scripted::new(gone) };
    let err = gone.acquire(retry).await.unwrap_err();
    assert_eq!(err.fault(), Some(Fault::Unavailable), "the store has not answered since");
    let now = Scripted::new([Next::Grant]);
    assert!(now.acquire(Retry::within(Duration::ZERO)).await.is_err());
    assert_eq!(now.joins(), 0, "it has no time to wait");
}

#[tokio::test(start_paused = true)]
async fn steps_that_return_at_once_do_not_outlast_the_time_limit() {
    let retry = Retry::within(Duration::from_secs(5));
    for step in [Next::Move, Next::Lose] {
        let (queue, began) = (Scripted::new(vec![step; 100_000]), Instant::now());
        let err = queue.acquire(retry).await.unwrap_err();
        assert!(matches!(err, LockError::Timeout { .. }), "{err:?}");
        assert_eq!(began.elapsed(), Duration::from_secs(5));
        let sent = 100_000 - queue.next.lock().len();
        assert!(sent < 1_000, "{sent} requests");
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_of_one_client_join_in_the_order_of_their_calls() {
    let (arrivals, id) = (WaitQueue::new(), id());
    let first = arrivals.permit(&id).await;
    let queue = Scripted::new([Next::Grant]);
    let retry = Retry::FOREVER;
    let mut second = std::pin::pin!(acquire_queued(&queue, &arrivals, &id, &retry));
    assert!(time::timeout(TTL / 2, &mut second).await.is_err());
    assert_eq!((queue.tries.load(SeqCst), queue.joins()), (0, 0), "the first has not joined");
    drop(first);
    assert!(second.await.is_ok());
    assert_eq!(queue.tries.load(SeqCst), 0, "the one before it has most likely the lock");
}

/// The first has a program that does not poll it any more.
#[tokio::test(start_paused = true)]
async fn one_that_does_not_get_to_join_holds_up_the_others_for_a_while_only() {
    let (arrivals, id) = (WaitQueue::new(), id());
    let _first = arrivals.permit(&id).await;
    let queue = Scripted::new([Next::Grant]);
    let retry = Retry::within(Duration::from_secs(30));
    assert!(acquire_queued(&queue, &arrivals, &id, &retry).await.is_ok());
    assert_eq!((queue.tries.load(SeqCst), queue.joins()), (0, 1));
}
