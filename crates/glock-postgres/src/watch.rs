//! `Listener`: the connection on which a lock and its clones receive notifications of releases.

use std::{fmt, sync::Arc, time::Duration};

use glock_core::{
    LockError,
    toolkit::{BackgroundTask, Backoff, Mutex, Notified, Worker},
};
use sqlx::PgPool;
use tokio::{
    sync::watch,
    time::{self, Instant},
};

use crate::{
    client::{Connections, ListenerSource, ListenerStatus, NotificationConnection},
    error::Failure,
    schema::Schema,
};

/// How long the connection is kept after the last waiter.
const IDLE_MAX: Duration = Duration::from_mins(1);
/// How often to look whether there are waiters, and whether the connection should be tested.
const TICK: Duration = Duration::from_millis(500);
/// After so long without a look, the task's runtime is busy with something else.
const STALLED_AFTER: Duration = Duration::from_secs(2);
/// How long the connection may be silent before it is tested: a gateway may have dropped it.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// How long a connection that receives no notifications is not tried again.
const SILENT_FOR: Duration = Duration::from_mins(10);
/// The first and the longest pause before the connection is made again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A connection that worked for so long is replaced at once when it breaks.
const STABLE: Duration = Duration::from_secs(1);
/// How long closing a connection may take.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Runs the listening task while there are waiters, and ends it with the last clone of the lock.
pub(crate) struct Listener {
    task: Arc<NotificationTask>,
    background: BackgroundTask,
    /// Dropped with the lock: then the task ends.
    _lock: watch::Sender<()>,
}

impl Listener {
    pub(crate) fn new(
        connections: Connections,
        schema: &Schema,
        source: ListenerSource,
        notified: Notified,
    ) -> Self {
        let (lock, lock_dropped) = watch::channel(());
        let task = Arc::new(NotificationTask {
            source,
            connections,
            channel: Arc::clone(&schema.channel),
            notified,
            status: watch::Sender::new(ListenerStatus::Connecting),
            state: Mutex::default(),
            lock_dropped,
        });
        Self { task, background: BackgroundTask::new(), _lock: lock }
    }

    pub(crate) fn source(&self) -> &ListenerSource {
        &self.task.source
    }

    /// Whether notifications arrive, and how that changes; starts to listen where no task does. `None`:
    /// there is no connection to listen on.
    ///
    /// Subscribe to the wake-ups first: a connection that ends sets the status, then wakes all waiters.
    pub(crate) fn status(&self) -> Option<watch::Receiver<ListenerStatus>> {
        if matches!(self.task.source, ListenerSource::None) {
            return None;
        }
        self.task.state.lock().used_at = Some(Instant::now());
        self.background.start(&self.task);
        Some(self.task.status.subscribe())
    }

    /// Whether the task's runtime is busy with something else, as a thread that computes is: then no
    /// notification arrives until it is done.
    pub(crate) fn is_stalled(&self) -> bool {
        let looked_at = self.task.state.lock().looked_at;
        looked_at.is_some_and(|looked_at| looked_at.elapsed() > STALLED_AFTER)
    }

    /// Whether notifications arrive now.
    pub(crate) fn is_heard(&self) -> bool {
        matches!(*self.task.status.borrow(), ListenerStatus::Listening) && !self.is_stalled()
    }

    /// The failure of the connection, if the server refused it.
    pub(crate) fn rejected(&self) -> Option<LockError> {
        self.task.status.borrow().rejected()
    }

    /// Whether waiters are notified of a release, as far as is known.
    pub(crate) fn notifies(&self) -> bool {
        let silent = matches!(*self.task.status.borrow(), ListenerStatus::Silent);
        !silent && !matches!(self.task.source, ListenerSource::None)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (&self.task.source, &*self.task.status.borrow()) {
            (ListenerSource::None, _) => "none",
            (_, ListenerStatus::Connecting) => "connecting",
            (_, ListenerStatus::Listening) => "listening",
            (_, ListenerStatus::Silent) => "silent",
            (_, ListenerStatus::Failed(..)) => "failed",
        })
    }
}

/// Listens, and wakes the waiters whose lock was released.
struct NotificationTask {
    source: ListenerSource,
    connections: Connections,
    channel: Arc<str>,
    notified: Notified,
    status: watch::Sender<ListenerStatus>,
    state: Mutex<State>,
    lock_dropped: watch::Receiver<()>,
}

struct State {
    /// When the task last looked.
    looked_at: Option<Instant>,
    /// When a waiter last used the connection.
    used_at: Option<Instant>,
    /// Whether a notification has arrived on a connection of this source.
    verified: bool,
    pauses: Backoff,
}

impl Default for State {
    fn default() -> Self {
        Self {
            looked_at: None,
            used_at: None,
            verified: false,
            pauses: Backoff::new(PAUSE_MIN, PAUSE_MAX),
        }
    }
}

/// Why a connection is no longer listened on.
enum End {
    /// There are no waiters, or the lock was dropped.
    Unused,
    /// It broke after it had worked for a while.
    Broken { worked: Duration },
    /// It could not be made.
    Failed(Failure),
    /// It works, and no notification arrives on it.
    Silent,
}

/// A round is the life of one connection. One that breaks is made again here: the driver's own
/// reconnection does not cover every error.
impl Worker for NotificationTask {
    async fn round(&self) -> Option<Duration> {
        let end = if self.is_unused() { End::Unused } else { self.connect_and_listen().await };
        let mut state = self.state.lock();
        match end {
            End::Unused => {
                state.verified = false;
                state.pauses.reset();
                self.status.send_replace(ListenerStatus::Connecting);
                None
            }
            End::Broken { worked } if worked > STABLE => {
                state.pauses.reset();
                Some(Duration::ZERO)
            }
            // One that breaks again and again leaves room for the calls' own connections.
            End::Broken { .. } => Some(state.pauses.next_pause()),
            End::Failed(failure) => {
                let (fault, cause) = failure.into_shared();
                self.status.send_replace(ListenerStatus::Failed(fault, cause));
                Some(state.pauses.next_pause())
            }
            End::Silent => {
                self.status.send_replace(ListenerStatus::Silent);
                Some(SILENT_FOR)
            }
        }
    }
}

impl NotificationTask {
    async fn connect_and_listen(&self) -> End {
        let options = match &self.source {
            ListenerSource::Own(options) => options.as_ref().clone(),
            _ => self.connections.pool().connect_options().as_ref().clone(),
        };
        let pool = NotificationConnection::pool(options, self.connections.limits());
        let mut lock_dropped = self.lock_dropped.clone();
        let end = tokio::select! {
            biased;
            _ = lock_dropped.changed() => End::Unused,
            _ = self.connections.closed() => End::Unused,
            end = self.listen(&pool) => end,
        };
        let _ = time::timeout(CLOSE_MAX, pool.close()).await;
        end
    }

    async fn listen(&self, pool: &PgPool) -> End {
        // Once is enough: the next connection goes to the same server on the same path.
        let verify_over = (!self.state.lock().verified).then_some(&self.connections);
        let channels = [&*self.channel, self.notified.channel()];
        let opened = NotificationConnection::open(pool, channels, verify_over).await;
        let mut connection = match opened {
            Ok(Some(connection)) => connection,
            Ok(None) => return End::Silent,
            Err(failure) => return End::Failed(failure),
        };
        {
            let mut state = self.state.lock();
            state.verified = true;
            state.looked_at = Some(Instant::now());
        }
        let _listening = Listening::begin(self);
        let began = Instant::now();
        let (mut tick, mut received_at) = (began + TICK, began);
        loop {
            tokio::select! {
                received = connection.receive() => {
                    let Some(message) = received else {
                        return End::Broken { worked: began.elapsed() };
                    };
                    received_at = Instant::now();
                    self.notified.receive(&message);
                }
                () = time::sleep_until(tick) => {
                    tick = Instant::now() + TICK;
                    self.state.lock().looked_at = Some(Instant::now());
                    if self.is_unused() {
                        return End::Unused;
                    }
                    if received_at.elapsed() >= SILENCE_MAX {
                        received_at = Instant::now();
                        if !connection.replies(self.connections.limits().attempt()).await {
                            return End::Broken { worked: began.elapsed() };
                        }
                    }
                }
            }
        }
    }

    /// Whether there are no waiters, and were none for a while.
    fn is_unused(&self) -> bool {
        if self.connections.pool().is_closed() {
            return true;
        }
        let used_at = self.state.lock().used_at;
        let recently = used_at.is_some_and(|used_at| used_at.elapsed() < IDLE_MAX);
        !recently && self.notified.is_empty()
    }
}

/// The time during which notifications arrive. Before it and at its end, some may have been missed. The status changes first: a waiter that sleeps again then waits for the next connection.
struct Listening<'a>(&'a NotificationTask);

impl<'a> Listening<'a> {
    fn begin(task: &'a NotificationTask) -> Self {
        task.status.send_replace(ListenerStatus::Listening);
        task.notified.waiters.missed();
        Self(task)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.status.send_replace(ListenerStatus::Connecting);
        self.0.notified.missed();
    }
}
