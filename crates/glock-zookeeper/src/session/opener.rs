//! `Session` and `Sessions`: the one session that all of a client's locks hang on.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{Action, LockError};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinSet,
    time::{self, Instant},
};
use zookeeper_client::{Client, Connector, Error, EventType, OneshotWatcher};

use crate::{
    error, queue::local_waiters::LocalWaiters, session::cleanup, session::hold_table::HoldTable,
    session::liveness::SessionLiveness, session::node_options::NodeOptions,
};

/// A session with the servers.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) liveness: Arc<SessionLiveness>,
    pub(crate) holds: Arc<HoldTable>,
    pub(crate) node_options: Arc<NodeOptions>,
    pub(crate) local_waiters: LocalWaiters,
    /// For how long a request whose answer was lost may still be on its way.
    pub(crate) in_flight_max: Duration,
    /// Where its driver runs: what outlives a call runs there as well.
    pub(crate) runtime: Handle,
    /// Its driver was stopped, so that nothing will ever answer.
    broken: AtomicBool,
}

impl Session {
    /// Whether it has ended for good, and every lock with it.
    pub(crate) fn is_over(&self) -> bool {
        self.broken.load(Relaxed) || self.client.state().is_terminated()
    }

    /// Looks at a failure for signs that the session will never answer again.
    pub(crate) fn note(&self, err: &Error) {
        // The driver's task is gone, as when its runtime was shut down.
        if matches!(err, Error::ClientClosed | Error::UnexpectedError(_)) {
            self.broken.store(true, Relaxed);
            self.liveness.session_deadline().expire();
            // Its holds keep the session open no longer: it is closed with its last user.
            self.holds.clear();
        }
    }
}

impl Session {
    /// Waits until something becomes of a watched node; `None` once the driver is gone.
    pub(crate) async fn changed(&self, node: OneshotWatcher) -> Option<EventType> {
        // On the driver's runtime: a watch whose driver is shut down panics where it is polled.
        let mut task = JoinSet::new();
        task.spawn_on(node.changed(), &self.runtime);
        let event = task.join_next().await.and_then(Result::ok);
        if event.is_none() {
            self.note(&Error::ClientClosed);
        }
        event.map(|event| event.event_type)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // The driver closes the session when its last client is dropped: nothing is left to wait for.
        self.holds.close();
    }
}

/// Opens a session when one is needed, and another when that one is over.
pub(crate) struct Sessions {
    connector: Connector,
    cluster: Arc<str>,
    timeout: Duration,
    in_flight_max: Duration,
    node_options: Arc<NodeOptions>,
    slot: Mutex<Slot>,
}

type Opening = watch::Receiver<Option<Result<Arc<Session>, Error>>>;

enum Slot {
    None,
    Opening(Opening),
    Open(Arc<Session>),
}

/// The first and longest pause after servers that cannot be reached.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How much of a call's time may go by without a session: then there is still time to say so.
const OPENING_PERCENT: u32 = 90;

impl Sessions {
    pub(crate) fn new(
        connector: Connector,
        cluster: Arc<str>,
        timeout: Duration,
        in_flight_max: Duration,
        node_options: Arc<NodeOptions>,
    ) -> Self {
        // Hosts that are down are told at once, a server that takes no writes is of no use, and the
        // time-out is what `Capabilities` speak of.
        let connector =
            connector.with_session_timeout(timeout).with_readonly(false).with_fail_eagerly();
        // The driver's own part of the session's time-out: `SessionLiveness` counts on how often it pings.
        let connector = connector.with_connection_timeout(Duration::ZERO);
        Self {
            connector,
            cluster,
            timeout,
            in_flight_max,
            node_options,
            slot: Mutex::new(Slot::None),
        }
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The time-out that the servers granted; before that, the one that they will be asked for.
    pub(crate) fn timeout(&self) -> Duration {
        match &*self.slot() {
            Slot::Open(session) => session.client.session_timeout(),
            _ => self.timeout,
        }
    }

    /// The session::opener, if it is open.
    pub(crate) fn current(&self) -> Option<Arc<Session>> {
        match &*self.slot() {
            Slot::Open(session) if !session.is_over() => Some(Arc::clone(session)),
            _ => None,
        }
    }

    /// The session::opener, opened if need be, within a part of `limit`.
    pub(crate) async fn get(
        &self,
        action: Action,
        limit: Duration,
    ) -> Result<Arc<Session>, LockError> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let mut last = None;
        let opened = time::timeout(limit * OPENING_PERCENT / 100, self.open(&mut last)).await;
        opened.unwrap_or_else(|_| Err(error::unreachable(action, last.take()))).map_err(|err| {
            // Named once more, as the inner part does not know what it is done for.
            match err {
                LockError::Backend { backend, fault, source, .. } => {
                    LockError::Backend { backend, action, fault, source }
                }
                err => err,
            }
        })
    }

    /// Tries until a session is open, or the servers refuse for good.
    async fn open(&self, last: &mut Option<Error>) -> Result<Arc<Session>, LockError> {
        let mut pause = PAUSE;
        loop {
            let mut opening = match self.opening() {
                Ok(session) => return Ok(session),
                Err(opening) => opening,
            };
            let opened = opening.wait_for(Option::is_some).await.map(|opened| opened.clone());
            match opened {
                // Taken into use by the next turn of the loop, once for all who wait.
                Ok(Some(Ok(_))) => continue,
                Ok(Some(Err(err))) if error::fault(&err) == glock_core::Fault::Rejected => {
                    return Err(error::unreachable(Action::Acquire, Some(err)));
                }
                Ok(Some(Err(err))) => *last = Some(err),
                Ok(None) | Err(_) => {}
            }
            time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The open session, or the attempt that is under way, begun here if there is none.
    fn opening(&self) -> Result<Arc<Session>, Opening> {
        let mut slot = self.slot();
        let found = match &*slot {
            Slot::None => None,
            Slot::Open(session) => Some(Arc::clone(session)),
            Slot::Opening(opening) => match &*opening.borrow() {
                Some(opened) => opened.as_ref().ok().cloned(),
                // Its task is gone with its runtime if nobody can answer any more.
                None if opening.has_changed().is_ok() => return Err(opening.clone()),
                None => None,
            },
        };
        if let Some(session) = found.filter(|session| !session.is_over()) {
            *slot = Slot::Open(Arc::clone(&session));
            return Ok(session);
        }
        let (done, opening) = watch::channel(None);
        let (cluster, node_options) = (Arc::clone(&self.cluster), Arc::clone(&self.node_options));
        let attempt = attempt(self.connector.clone(), cluster, self.in_flight_max, node_options);
        // In a task of its own: whoever waits for it may be dropped.
        tokio::spawn(async move { done.send(Some(attempt.await)) });
        *slot = Slot::Opening(opening.clone());
        Err(opening)
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        // No code that could panic runs under this lock, so what it holds is whole.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens one session, and begins to look after it.
async fn attempt(
    connector: Connector,
    cluster: Arc<str>,
    in_flight_max: Duration,
    node_options: Arc<NodeOptions>,
) -> Result<Arc<Session>, Error> {
    let asked_at = Instant::now();
    let client = connector.connect(&cluster).await?;
    let liveness = Arc::new(SessionLiveness::new(asked_at, client.session_timeout()));
    let holds = Arc::new(HoldTable::default());
    let states = client.state_watcher();
    let (local_waiters, runtime) = (LocalWaiters::default(), Handle::current());
    let broken = AtomicBool::new(false);
    let session = Session {
        client,
        liveness,
        holds,
        node_options,
        local_waiters,
        in_flight_max,
        runtime,
        broken,
    };
    let session = Arc::new(session);
    tokio::spawn(cleanup::keep(
        Arc::downgrade(&session),
        Arc::clone(&session.holds),
        Arc::clone(&session.liveness),
        states,
    ));
    Ok(session)
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("cluster", &self.cluster)
            .field("timeout", &self.timeout())
            .finish_non_exhaustive()
    }
}
