//! `Sessions`: opens a client's session when one is needed, and another when that one is over.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use glock_core::{
    Action, LockError,
    toolkit::{Backoff, Mutex},
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use zookeeper_client::{Connector, Error, StateWatcher};

use crate::{
    error::{is_rejected, unreachable},
    session::{handle::Session, node_options::NodeOptions},
};

/// Opens a session when one is needed, and another when that one is over.
pub(crate) struct Sessions {
    connector: Connector,
    cluster: Arc<str>,
    timeout: Duration,
    limit: Duration,
    node_options: Arc<NodeOptions>,
    opening: Mutex<Option<Opening>>,
}

/// The latest attempt to open a session. It has a value once the attempt has ended.
type Opening = watch::Receiver<Option<Result<Arc<Session>, Error>>>;

/// Pauses while the servers cannot be reached.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
/// How much of a call's time may pass without a session. The rest is for the reply to the caller.
const OPENING_PERCENT: u32 = 90;
/// A network that is not broken keeps no request for much longer.
const IN_FLIGHT_MIN: Duration = Duration::from_secs(4);

impl Sessions {
    /// Sessions of which a call may take `limit`.
    pub(crate) fn new(
        connector: Connector,
        cluster: Arc<str>,
        timeout: Duration,
        limit: Duration,
        node_options: NodeOptions,
    ) -> Self {
        // Report hosts that are down at once, refuse servers that take no writes, and keep the
        // time-out that `Capabilities` state.
        let connector =
            connector.with_session_timeout(timeout).with_readonly(false).with_fail_eagerly();
        // The driver's own part of the session's time-out: `SessionLiveness` relies on its pings.
        let connector = connector.with_connection_timeout(Duration::ZERO);
        let (node_options, opening) = (Arc::new(node_options), Mutex::default());
        Self { connector, cluster, timeout, limit, node_options, opening }
    }

    pub(crate) fn connector(&self) -> &Connector {
        &self.connector
    }

    /// The time-out that the servers granted; before that, the one that will be requested.
    pub(crate) fn timeout(&self) -> Duration {
        self.opened().map_or(self.timeout, |session| session.client.session_timeout())
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
                // It is over, or the attempt's runtime was shut down.
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
                // The attempt's task is gone with its runtime if no reply can come any more.
                None => opening.has_changed().is_ok(),
            };
            if is_usable {
                return opening.clone();
            }
        }
        let (done, opening) = watch::channel(None);
        let (connector, cluster) = (self.connector.clone(), Arc::clone(&self.cluster));
        let (limit, node_options) = (self.limit, Arc::clone(&self.node_options));
        // In a task of its own: its callers may leave.
        tokio::spawn(async move {
            done.send(Some(connect(connector, &cluster, limit, node_options).await))
        });
        *latest = Some(opening.clone());
        opening
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

/// Opens one session, for a client whose calls may take `limit`.
async fn connect(
    connector: Connector,
    cluster: &str,
    limit: Duration,
    node_options: Arc<NodeOptions>,
) -> Result<Arc<Session>, Error> {
    let sent_at = Instant::now();
    let client = connector.connect(cluster).await?;
    let states = client.state_watcher();
    let session = Session::new(client, sent_at, in_flight_max(limit), node_options);
    let session = Arc::new(session);
    tokio::spawn(watch_state(states, Arc::downgrade(&session)));
    Ok(session)
}

/// Ends a session's leases as soon as the driver knows that it is over.
async fn watch_state(mut states: StateWatcher, session: Weak<Session>) {
    while !states.state().is_terminated() {
        states.changed().await;
    }
    if let Some(session) = session.upgrade() {
        session.expire();
    }
}

/// How long to look for a request whose reply was lost, where a call may take `limit`.
fn in_flight_max(limit: Duration) -> Duration {
    limit.max(IN_FLIGHT_MIN)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_request_is_looked_for_as_long_as_a_call_may_take_and_four_seconds_at_least() {
        assert_eq!(in_flight_max(Duration::from_millis(10)), IN_FLIGHT_MIN);
        assert_eq!(in_flight_max(Duration::from_mins(1)), Duration::from_mins(1));
    }
}
