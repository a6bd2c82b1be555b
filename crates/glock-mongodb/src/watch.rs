//! `Watch`: a change stream that reports to a lock and its clones.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{
    Action, Fault, LockError,
    toolkit::{BackgroundTask, Backoff, Mutex, Worker},
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{self, Instant},
};

use crate::{
    client::{Audience, ChangeStreamSource, EventStream, Next},
    error::Failure,
};

/// How long the stream is kept after the last waiter.
const IDLE_MAX: Duration = Duration::from_mins(1);
/// How long the server keeps a request for events that finds none.
const AWAIT_MAX: Duration = Duration::from_secs(10);
/// How long a server that has no change streams is not tried again.
const UNSUPPORTED_FOR: Duration = Duration::from_mins(10);
/// The first and the longest pause before the stream is opened again.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A stream that worked for so long is replaced at once when it breaks.
const STABLE: Duration = Duration::from_secs(1);

const NOT_WATCHING: &str = "the change stream that wakes waiters could not be opened";

/// Whether waiters are to be woken by a change stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watching {
    /// Where the server has one.
    Stream,
    /// Waiters poll.
    None,
}

/// Whether events are reported.
#[derive(Debug, Clone)]
pub(crate) enum WatchStatus {
    /// There is no stream, or it is being opened.
    Opening,
    /// The stream is open: it reports every event from now on.
    Open,
    /// The server has no change streams.
    Unsupported,
    /// The stream could not be opened; that is tried again.
    Failed(Fault, Arc<dyn Error + Send + Sync>),
}

/// Runs the task that reads the stream while there are waiters, and ends it with the last clone of the
/// lock.
pub(crate) struct Watch {
    task: Arc<WatchTask>,
    background: BackgroundTask,
    watching: Watching,
    is_standalone: Arc<AtomicBool>,
    /// Dropped with the lock: then the task ends.
    _lock: watch::Sender<()>,
}

impl Watch {
    pub(crate) fn new(
        source: ChangeStreamSource,
        audience: Audience,
        call_timeout: Duration,
        (watching, is_standalone): (Watching, Arc<AtomicBool>),
    ) -> Self {
        let (lock, lock_dropped) = watch::channel(());
        let task = Arc::new(WatchTask {
            source,
            audience,
            call_timeout,
            status: watch::Sender::new(WatchStatus::Opening),
            state: Mutex::default(),
            lock_dropped,
        });
        Self { task, background: BackgroundTask::new(), watching, is_standalone, _lock: lock }
    }

    /// Whether events are reported, and how that changes; opens the stream where there is none. `None`:
    /// there will be no stream. It runs on `runtime`.
    ///
    /// Subscribe to the wake-ups first: a stream that ends sets the status, then wakes all.
    pub(crate) fn status(&self, runtime: &Handle) -> Option<watch::Receiver<WatchStatus>> {
        if !self.may_stream() {
            return None;
        }
        self.task.state.lock().used_at = Some(Instant::now());
        let _on_that_runtime = runtime.enter();
        self.background.start(&self.task);
        Some(self.task.status.subscribe())
    }

    /// Whether events are reported, as far as is known.
    pub(crate) fn reports(&self) -> bool {
        self.may_stream() && !matches!(*self.task.status.borrow(), WatchStatus::Unsupported)
    }

    /// Whether events are reported now.
    pub(crate) fn is_open(&self) -> bool {
        self.may_stream() && matches!(*self.task.status.borrow(), WatchStatus::Open)
    }

    /// The failure of the stream, if the server refuses it. One that may pass is no concern of a waiter.
    pub(crate) fn rejected(&self) -> Option<LockError> {
        match &*self.task.status.borrow() {
            WatchStatus::Failed(Fault::Rejected, cause) if self.may_stream() => {
                let failure = Failure::new(Fault::Rejected, Arc::clone(cause));
                Some(failure.explained(NOT_WATCHING).during(Action::Wait))
            }
            _ => None,
        }
    }

    fn may_stream(&self) -> bool {
        self.watching == Watching::Stream && !self.is_standalone.load(Relaxed)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &*self.task.status.borrow() {
            _ if !self.may_stream() => "none",
            WatchStatus::Opening => "opening",
            WatchStatus::Open => "open",
            WatchStatus::Unsupported => "unsupported",
            WatchStatus::Failed(..) => "failed",
        })
    }
}

/// Reads the stream, and wakes those whom its events are for.
struct WatchTask {
    source: ChangeStreamSource,
    audience: Audience,
    call_timeout: Duration,
    status: watch::Sender<WatchStatus>,
    state: Mutex<State>,
    lock_dropped: watch::Receiver<()>,
}

struct State {
    /// When a waiter last used the stream.
    used_at: Option<Instant>,
    pauses: Backoff,
}

impl Default for State {
    fn default() -> Self {
        Self { used_at: None, pauses: Backoff::new(PAUSE_MIN, PAUSE_MAX) }
    }
}

/// Why a stream is no longer read.
enum End {
    /// There are no waiters, or the lock was dropped.
    Unused,
    /// It broke after it had worked for a while.
    Broken { worked: Duration },
    /// It could not be opened.
    Failed(Failure),
    /// The server has none.
    Unsupported,
}

/// A round is the life of one stream. The driver resumes it after an election; where it cannot, because
/// the oplog no longer has that time, another one is opened here.
impl Worker for WatchTask {
    async fn round(&self) -> Option<Duration> {
        let mut lock_dropped = self.lock_dropped.clone();
        let end = if self.is_unused() {
            End::Unused
        } else {
            tokio::select! {
                biased;
                _ = lock_dropped.changed() => End::Unused,
                end = self.open_and_read() => end,
            }
        };
        let mut state = self.state.lock();
        match end {
            End::Unused => {
                state.pauses.reset();
                self.status.send_replace(WatchStatus::Opening);
                None
            }
            End::Broken { worked } if worked > STABLE => {
                state.pauses.reset();
                Some(Duration::ZERO)
            }
            End::Broken { .. } => Some(state.pauses.next_jittered()),
            End::Failed(failure) => {
                let (fault, cause) = failure.into_shared();
                self.status.send_replace(WatchStatus::Failed(fault, cause));
                Some(state.pauses.next_jittered())
            }
            End::Unsupported => {
                self.status.send_replace(WatchStatus::Unsupported);
                Some(UNSUPPORTED_FOR)
            }
        }
    }
}

impl WatchTask {
    async fn open_and_read(&self) -> End {
        let opening = self.source.open(AWAIT_MAX);
        let stream = match time::timeout(self.call_timeout, opening).await {
            Ok(Ok(Some(stream))) => stream,
            Ok(Ok(None)) => return End::Unsupported,
            Ok(Err(failure)) => return End::Failed(failure),
            Err(_) => {
                let what = format!("no reply within {:?}", self.call_timeout);
                return End::Failed(Failure::new(Fault::Unavailable, what));
            }
        };
        let _open = Open::begin(self);
        self.read(stream).await
    }

    async fn read(&self, mut stream: EventStream) -> End {
        let began = Instant::now();
        // A server that is silent for longer is gone: it replies to each request, events or none.
        let silence_max = AWAIT_MAX.saturating_add(self.call_timeout);
        loop {
            match time::timeout(silence_max, stream.next()).await {
                Ok(Ok(Next::Event(text))) => self.audience.receive(&text),
                Ok(Ok(Next::Nothing)) if self.is_unused() => return End::Unused,
                Ok(Ok(Next::Nothing | Next::Other)) => {}
                Ok(Ok(Next::End) | Err(_)) | Err(_) => {
                    return End::Broken { worked: began.elapsed() };
                }
            }
        }
    }

    /// Whether there are no waiters, and were none for a while.
    fn is_unused(&self) -> bool {
        let used_at = self.state.lock().used_at;
        let recently = used_at.is_some_and(|used_at| used_at.elapsed() < IDLE_MAX);
        !recently && self.audience.is_empty()
    }
}

/// The time during which the stream is open. Before it and at its end, events may have been missed. The
/// status changes first: one that sleeps again then waits for the next stream.
struct Open<'a>(&'a WatchTask);

impl<'a> Open<'a> {
    fn begin(task: &'a WatchTask) -> Self {
        task.status.send_replace(WatchStatus::Open);
        // One that sleeps until a lock may be free looks at it once the stream is open.
        if let Audience::Waiters(waiters) = &task.audience {
            waiters.missed();
        }
        Self(task)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.status.send_replace(WatchStatus::Opening);
        self.0.audience.missed();
    }
}
