//! `Watch`: the task that watches the file for this client's waiters, and wakes them.

use std::{error::Error, sync::Arc, time::Duration};

use glock_core::{
    Fault,
    toolkit::{BackgroundTask, CallDeadline, Mutex, Notified, Subscription, Worker},
};
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};

use crate::{
    client::FileChanges,
    commands::{Commands, sleepers::BATCH},
    error::Failure,
};

/// How long the file is watched after the last waiter.
const IDLE_MAX: Duration = Duration::from_secs(1);
/// How often the locks are looked at without a change: a holder may have been killed just before it touched
/// the file, and others may change it by hand.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// After so long without a look, the task's runtime is busy with something else.
const STALLED_AFTER: Duration = Duration::from_millis(2_500);
/// For how long a release touches the file that waiters watch. Half of it may pass before it is set again.
const WAITED_FOR: Duration = Duration::from_secs(10);
/// The pause after a look that failed.
const FAILED_PAUSE: Duration = Duration::from_millis(200);

/// What a failed look means, and its cause.
pub(crate) type Cause = (Fault, Arc<dyn Error + Send + Sync>);

/// Runs the task while there are waiters, and ends it with the last clone of the lock.
pub(crate) struct Watch {
    watcher: Arc<Watcher>,
    task: BackgroundTask,
    /// Dropped with the lock: then the task ends.
    _lock: watch::Sender<()>,
}

struct Watcher {
    commands: Commands,
    call_timeout: Duration,
    notified: Notified,
    /// A waiter has come, and its lock is to be looked at.
    subscribed: Notify,
    state: Mutex<State>,
    lock_dropped: watch::Receiver<()>,
}

#[derive(Default)]
struct State {
    /// When the task has last looked, or begun to.
    looked_at: Option<Instant>,
    used_at: Option<Instant>,
    failure: Option<Cause>,
}

impl Watch {
    pub(crate) fn new(commands: Commands, call_timeout: Duration, notified: Notified) -> Self {
        let (lock, lock_dropped) = watch::channel(());
        let watcher = Watcher {
            commands,
            call_timeout,
            notified,
            subscribed: Notify::new(),
            state: Mutex::default(),
            lock_dropped,
        };
        Self { watcher: Arc::new(watcher), task: BackgroundTask::new(), _lock: lock }
    }

    /// Has the lock of that key looked at from now on.
    pub(crate) fn subscribe(&self, key: &str) -> Subscription {
        let subscription = self.watcher.notified.sleepers.subscribe(key);
        self.start();
        subscription
    }

    /// Has the file watched for this client's waiters from now on.
    pub(crate) fn start(&self) {
        let now = Instant::now();
        {
            let mut state = self.watcher.state.lock();
            state.used_at = Some(now);
            // From now on it is expected to look.
            state.looked_at.get_or_insert(now);
        }
        self.watcher.subscribed.notify_one();
        self.task.start(&self.watcher);
    }

    /// Whether the task has not looked for so long that its runtime must be busy.
    pub(crate) fn is_stalled(&self) -> bool {
        let looked_at = self.watcher.state.lock().looked_at;
        looked_at.is_some_and(|looked_at| looked_at.elapsed() >= STALLED_AFTER)
    }

    /// Starts the task again, on the runtime of the caller.
    pub(crate) fn restart(&self) {
        self.watcher.state.lock().looked_at = Some(Instant::now());
        self.task.restart(&self.watcher);
    }

    /// Why the last look failed, if it did.
    pub(crate) fn failure(&self) -> Option<Cause> {
        self.watcher.state.lock().failure.clone()
    }
}

impl Worker for Watcher {
    async fn round(&self) -> Option<Duration> {
        let mut lock_dropped = self.lock_dropped.clone();
        tokio::select! {
            biased;
            _ = lock_dropped.changed() => {}
            () = self.watch() => {}
        }
        self.stopped();
        None
    }

    fn interrupted(&self) {
        self.stopped();
    }
}

impl Watcher {
    /// A release may be missed from now on, so waiters try again, and watch the file on their own runtime.
    fn stopped(&self) {
        self.state.lock().looked_at = None;
        self.notified.missed();
    }

    /// Looks at the locks that are waited for after each change of the file, until there are none.
    async fn watch(&self) {
        let mut changes = FileChanges::new(self.commands.connections());
        let mut next_look = Duration::ZERO;
        loop {
            tokio::select! {
                () = self.subscribed.notified() => {}
                () = changes.next(self.commands.connections(), self.until()) => {}
                () = time::sleep(next_look.min(LOOK_PAUSE)) => {}
            }
            if self.is_unused() {
                return;
            }
            self.state.lock().looked_at = Some(Instant::now());
            let looked = self.look(changes.are_notified()).await;
            let failure;
            (next_look, failure) = match looked {
                Ok(next_look) => (next_look, None),
                Err(failure) => (FAILED_PAUSE, Some(failure.into_shared())),
            };
            let failed = failure.is_some();
            self.state.lock().failure = failure;
            if failed {
                // They learn of it, and try by themselves.
                self.notified.missed();
                time::sleep(FAILED_PAUSE).await;
            }
        }
    }

    /// Wakes the waiters of locks that are free. Returns when the next lease of the others ends.
    async fn look(&self, notified: bool) -> Result<Duration, Failure> {
        let mut next = LOOK_PAUSE;
        if !self.notified.waiters.is_empty() {
            let turns = self.commands.turns(self.until()).await?;
            for number in turns {
                self.notified.waiters.turn(number);
            }
        }
        for keys in self.notified.sleepers.awaited().chunks(BATCH) {
            let mut held = self.commands.held(keys, self.until()).await?;
            if notified && held.iter().any(|lock| lock.noticed_for < WAITED_FOR / 2) {
                // In this order: a release that came before the mark is seen by the look after it.
                self.commands.set_waited(keys, WAITED_FOR, self.until()).await?;
                held = self.commands.held(keys, self.until()).await?;
            }
            let free = keys.iter().filter(|key| held.iter().all(|lock| lock.key != **key));
            free.for_each(|key| self.notified.sleepers.wake(key));
            next = held.iter().map(|lock| lock.remaining).fold(next, Duration::min);
        }
        Ok(next)
    }

    fn until(&self) -> CallDeadline {
        CallDeadline::after(self.call_timeout)
    }

    /// Whether there are no waiters, and were none for a while.
    fn is_unused(&self) -> bool {
        let used_at = self.state.lock().used_at;
        let recently = used_at.is_some_and(|used_at| used_at.elapsed() < IDLE_MAX);
        !recently && self.notified.is_empty()
    }
}
