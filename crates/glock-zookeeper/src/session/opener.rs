//! `Sessions`: opens a client's session when one is needed, and another when that one is over.

use std::{fmt, sync::Arc, time::Duration};

use glock_core::{
    Action, LockError,
    toolkit::{Backoff, Mutex, PendingWork},
};
use tokio::time;
use zookeeper_client::{Connector, Error};

use crate::{
    error::{is_rejected, unreachable},
    session::{
        handle::Session,
        node_options::NodeOptions,
        thread::{Opening, SessionThread},
    },
};

/// Opens a session when one is needed, and another when that one is over.
pub(crate) struct Sessions {
    connector: Mutex<Connector>,
    cluster: Arc<str>,
    timeout: Duration,
    limit: Duration,
    node_options: NodeOptions,
    pending: PendingWork,
    /// The latest attempt to open a session.
    opening: Mutex<Option<Opening>>,
}

/// Pauses while the servers cannot be reached.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// How much of a call's time may pass without a session. The rest is for the reply to the caller.
const OPENING_PERCENT: u32 = 90;
/// How much of a call's time, and of the session's, a silent connection may take.
const SILENCE_PERCENT: u32 = 40;

impl Sessions {
    /// Sessions of which a call may take `limit`.
    pub(crate) fn new(
        connector: Connector,
        cluster: Arc<str>,
        timeout: Duration,
        limit: Duration,
        node_options: NodeOptions,
        pending: PendingWork,
    ) -> Self {
        let (connector, opening) = (Mutex::new(connector), Mutex::default());
        Self { connector, cluster, timeout, limit, node_options, pending, opening }
    }

    pub(crate) fn connector(&self) -> Connector {
        self.connector.lock().clone()
    }

    /// Opens the next session by another connector.
    pub(crate) fn set_connector(&self, connector: Connector) {
        *self.connector.lock() = connector;
    }

    /// The time-out that the servers granted; before that, the one that will be requested.
    pub(crate) fn timeout(&self) -> Duration {
        self.opened().map_or(self.timeout, |session| session.client.session_timeout())
    }

    /// The time-out that is requested.
    pub(crate) fn requested_timeout(&self) -> Duration {
        self.timeout
    }

    /// The session, if it is open.
    pub(crate) fn current(&self) -> Option<Arc<Session>> {
        self.opened().filter(|session| !session.is_over())
    }

    /// The session, opened if need be, within a part of the call's time limit.
    pub(crate) async fn get(&self, action: Action) -> Result<Arc<Session>, LockError> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let mut failed = None;
        match time::timeout(self.limit * OPENING_PERCENT / 100, self.open(&mut failed)).await {
            Ok(Some(session)) => Ok(session),
            Ok(None) | Err(_) => Err(unreachable(action, failed)),
        }
    }

    /// Tries until a session is open; `None` if the servers refuse for good. `failed` is the last
    /// failure.
    async fn open(&self, failed: &mut Option<Error>) -> Option<Arc<Session>> {
        let mut pauses = PAUSES;
        loop {
            let mut opening = self.opening();
            match opening.wait_for(Option::is_some).await.as_deref() {
                Ok(Some(Ok(session))) if !session.is_over() => return Some(Arc::clone(session)),
                Ok(Some(Err(err))) => {
                    *failed = Some(err.clone());
                    if is_rejected(err) {
                        return None;
                    }
                }
                // It is over, or it has no thread.
                _ => {}
            }
            pauses.sleep().await;
        }
    }

    /// The attempt that has opened the session or still may. Begins one if there is none.
    fn opening(&self) -> Opening {
        let mut latest = self.opening.lock();
        if let Some(opening) = &*latest {
            let is_usable = match &*opening.borrow() {
                Some(Ok(session)) => !session.is_over(),
                Some(Err(_)) => false,
                // Without its thread no reply can come any more.
                None => opening.has_changed().is_ok(),
            };
            if is_usable {
                return opening.clone();
            }
        }
        let thread = SessionThread {
            connector: self.session_connector(),
            cluster: Arc::clone(&self.cluster),
            limit: self.limit,
            silence_max: self.silence_max(),
            node_options: self.node_options.for_session(),
            pending: self.pending.clone(),
        };
        let opening = thread.start();
        *latest = Some(opening.clone());
        opening
    }

    fn session_connector(&self) -> Connector {
        // Report hosts that are down at once, refuse servers that take no writes, and keep the
        // time-out that `Capabilities` state.
        let connector = self.connector().with_session_timeout(self.timeout).with_readonly(false);
        connector.with_fail_eagerly().with_connection_timeout(self.silence_max())
    }

    /// How long a connection may be silent before another host is tried.
    fn silence_max(&self) -> Duration {
        self.limit.min(self.timeout) * SILENCE_PERCENT / 100
    }

    /// The session that was opened last.
    fn opened(&self) -> Option<Arc<Session>> {
        let latest = self.opening.lock();
        match &*latest.as_ref()?.borrow() {
            Some(Ok(session)) => Some(Arc::clone(session)),
            _ => None,
        }
    }
}

/// Without clones of the lock, only holds keep the session.
impl Drop for Sessions {
    fn drop(&mut self) {
        if let Some(session) = self.opened() {
            session.holds.cleanup.wake();
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("cluster", &self.cluster)
            .field("timeout", &self.timeout())
            .finish_non_exhaustive()
    }
}
