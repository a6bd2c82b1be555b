//! `RecordQueue`: a waiter in a queue that the store keeps beside the lock.

use std::{fmt, mem, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{self, Instant},
};

use super::{
    acquire_queued::{QueueStep, ServerQueue, acquire_queued},
    background_run::Worker,
    joining::{Entered, Joining},
    mutex::Mutex,
    pending_work::PendingWork,
    queue_store::{Listening, QueueStore},
    wait_queue::WaitQueue,
    waiter_registry::{RegisteredWaiter, WaiterRegistry},
    waiter_signal::Woken,
};
use crate::{Fault, Lease, LockError, LockId, Retry};

/// A client's waiters in the queues that a [`QueueStore`] keeps: what the clones of a lock share.
///
/// A waiter sends one request to join, which takes the lock if it is free. Then it sleeps until the store
/// notifies it, and sends one more to claim what was reserved for it. The first in the queue also wakes
/// when the holder's lease ends, or when it is to look again at a store that notifies of nothing. A heartbeat keeps the places of all waiters, finds what a lost
/// notification was about, and has a waiter whose place is gone join again.
pub struct RecordQueue<S> {
    store: S,
    registry: WaiterRegistry,
    /// The order in which this client's waiters join.
    arrivals: WaitQueue,
    pending: PendingWork,
    /// When the last round of heartbeats began or ended.
    round_at: Mutex<Instant>,
}

/// When no round of heartbeats has begun or ended for so long, its runtime computes.
const LATE: Duration = Duration::from_secs(3);
/// After so many pauses, a heartbeat is due for a lock although other requests were sent for it: they do not show
/// whether all waiters have their places.
const UNLOOKED_PAUSES: u32 = 3;

impl<S: QueueStore> RecordQueue<S> {
    /// No waiters. The task that receives the store's notifications passes them to `registry`; `pending`
    /// counts the waiters that are leaving.
    pub fn new(store: S, registry: WaiterRegistry, pending: &PendingWork) -> Arc<Self> {
        Arc::new(Self {
            store,
            registry,
            arrivals: WaitQueue::new(),
            pending: pending.clone(),
            round_at: Mutex::new(Instant::now()),
        })
    }

    /// Waits in the queue until the lock is granted or the time of `retry` is up: for
    /// [`LockHooks::acquire_queued`](super::LockHooks::acquire_queued).
    ///
    /// # Errors
    ///
    /// As [`acquire_queued`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the waiter leaves the queue, and a grant is undone.
    pub async fn acquire(
        self: &Arc<Self>,
        id: &LockId,
        ttl: Duration,
        retry: &Retry,
    ) -> Result<Lease, LockError> {
        let waiter = QueueOfLock { queue: self, id, ttl, joined: Mutex::default() };
        acquire_queued(&waiter, &self.arrivals, id, retry).await
    }

    /// Makes sure that heartbeats are sent: also if their task is on a runtime that does not get to it.
    fn keep_alive(self: &Arc<Self>) {
        let heartbeats = self.registry.heartbeats();
        let is_late = {
            let mut round_at = self.round_at.lock();
            let is_late = round_at.elapsed() >= LATE;
            if is_late {
                *round_at = Instant::now();
            }
            is_late
        };
        if is_late { heartbeats.restart(self) } else { heartbeats.start(self) }
    }

    fn note_round(&self) {
        *self.round_at.lock() = Instant::now();
    }
}

impl<S> fmt::Debug for RecordQueue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordQueue").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// The task rests less long than its owner's absence would be noticed otherwise.
impl<S> Drop for RecordQueue<S> {
    fn drop(&mut self) {
        self.registry.heartbeats().wake();
    }
}

/// Each round is one heartbeat.
impl<S: QueueStore> Worker for RecordQueue<S> {
    async fn round(&self) -> Option<Duration> {
        self.note_round();
        // Half a pause, so that all locks come to be due in the same round.
        let pause = self.store.heartbeat_pause();
        let due = self.registry.due(pause / 2, pause * UNLOOKED_PAUSES);
        if !due.is_empty() {
            match self.store.heartbeat(&due).await {
                Ok(found) => found.iter().for_each(|status| self.registry.apply(status)),
                Err(err) => self.registry.failed(&due, &err),
            }
            self.note_round();
        }
        // As it is by now: the store may want to be asked again soon.
        (!self.registry.is_empty()).then(|| self.store.heartbeat_pause())
    }
}

/// The queue of one lock, as one waiter sees it.
struct QueueOfLock<'a, S: QueueStore> {
    queue: &'a Arc<RecordQueue<S>>,
    id: &'a LockId,
    ttl: Duration,
    /// The waiter that the first try has put into the queue.
    joined: Mutex<Option<Entry<S>>>,
}

/// A waiter that may be in the queue. Dropped, it leaves in the background.
struct Entry<S: QueueStore> {
    queue: Arc<RecordQueue<S>>,
    /// `None` once it has the lock, or no request was sent that may have put it into the queue.
    place: Place,
    registered: RegisteredWaiter,
    granted: Option<Lease>,
}

/// Whether the store may have the waiter in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    None,
    Possible,
}

impl<S: QueueStore> QueueOfLock<'_, S> {
    fn register(&self) -> Entry<S> {
        let registered = self.queue.registry.register(self.id);
        Entry { queue: Arc::clone(self.queue), place: Place::None, registered, granted: None }
    }

    /// Takes the lock if it may, or keeps the place of `entry` in the queue.
    async fn enter(&self, entry: &mut Entry<S>) -> Result<Option<Lease>, LockError> {
        let (queue, before) = (self.queue, mem::replace(&mut entry.place, Place::Possible));
        let sent_at = Instant::now();
        let joining = Joining::new(entry.registered.waiter, queue.registry.clone());
        match joining.entered(queue.store.enter(self.id, self.ttl, &joining).await) {
            Ok(Entered::Granted(lease)) => {
                entry.place = Place::None;
                Ok(Some(lease))
            }
            Ok(Entered::Waiting { free_in }) => {
                entry.registered.joined(sent_at);
                let free_in = free_in.map(|left| left.saturating_add(queue.store.expiry_slack()));
                entry.registered.signal.free_in(free_in);
                queue.keep_alive();
                // Without notifications, heartbeats find out whose turn it is.
                if matches!(queue.store.listen(self.id).await, Ok(Listening::Began)) {
                    queue.registry.missed();
                }
                Ok(None)
            }
            Err(err) => {
                if err.fault() != Some(Fault::Unknown) && !joining.may_have_joined() {
                    entry.place = before;
                }
                // To be sent again after a pause.
                entry.registered.signal.claim();
                Err(err)
            }
        }
    }
}

impl<S: QueueStore> ServerQueue for QueueOfLock<'_, S> {
    type Entry = Entry<S>;

    /// The first try joins the queue in the same request, so other waiters do not make it useless.
    fn has_local_waiters(&self) -> bool {
        false
    }

    async fn try_acquire(&self) -> Result<Lease, LockError> {
        let mut entry = self.register();
        if let Some(lease) = self.enter(&mut entry).await? {
            return Ok(lease);
        }
        *self.joined.lock() = Some(entry);
        Err(LockError::Held { id: self.id.clone(), holder: None })
    }

    async fn join(&self) -> Result<Entry<S>, LockError> {
        if let Some(entry) = self.joined.lock().take() {
            return Ok(entry);
        }
        let mut entry = self.register();
        entry.granted = self.enter(&mut entry).await?;
        Ok(entry)
    }

    async fn next(&self, entry: &mut Entry<S>) -> Result<QueueStep, LockError> {
        if let Some(lease) = entry.granted.take() {
            return Ok(QueueStep::Granted(lease));
        }
        let woken = loop {
            self.queue.keep_alive();
            match entry.registered.signal.take() {
                Ok(woken) => break woken,
                Err(until) => {
                    // Not longer: the task of the heartbeats may need to be started again.
                    let late = Instant::now() + LATE;
                    let until = until.map_or(late, |until| until.min(late));
                    let _ = time::timeout_at(until, entry.registered.signal.changed()).await;
                }
            }
        };
        match woken {
            // A place that was lost is joined again by the same request.
            Woken::Claim => Ok(match self.enter(entry).await? {
                Some(lease) => QueueStep::Granted(lease),
                None => QueueStep::Waiting,
            }),
            Woken::Failed(err) => Err(err),
        }
    }
}

impl<S: QueueStore> Drop for Entry<S> {
    fn drop(&mut self) {
        if self.place == Place::None {
            return;
        }
        let (queue, pending) = (Arc::clone(&self.queue), self.queue.pending.begin());
        let (id, waiter) = (self.registered.id.clone(), self.registered.waiter);
        // Without a runtime nothing can be sent: the place is gone when its client is.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // If it fails, the place is gone with its turn.
                let _ = queue.store.leave(&id, waiter).await;
                drop(pending);
            });
        }
    }
}
