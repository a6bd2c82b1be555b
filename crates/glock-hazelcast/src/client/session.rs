//! `ClientSession`: the connections of one client id, on whose being there its map locks depend.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use glock_core::toolkit::{CallDeadline, Mutex, SessionDeadline};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{self, Instant},
};

use crate::{
    client::{
        connector::{Connector, Opened},
        link::{Failed, Link},
        links::{LINKS, LINKS_MAX, Links, Opening},
    },
    wire::{Connection, HazelcastError, Liveness, Uuid, auth::Login},
};

/// The connections of one client id, on whose being there its map locks depend.
///
/// When no member has a connection of a client, the members free its locks: at their next look, which
/// comes every ten seconds, if it has been gone for a tenth of a second by then. So a session has two
/// connections, to two members where there are two addresses, and while one lives, the locks do. Where
/// both are gone and none is back within [`ABSENCE_MAX`], the session counts as over: its leases are no
/// longer valid, until a renewal proves them to be.
pub(crate) struct ClientSession {
    settings: Arc<Settings>,
    client: Uuid,
    state: Mutex<Links>,
    /// For what the session's connections report to it.
    this: Weak<ClientSession>,
}

/// What all sessions of a [`HazelcastClient`](crate::HazelcastClient) have in common.
pub(crate) struct Settings {
    pub(crate) connector: Connector,
    pub(crate) cluster: Arc<str>,
    /// User name and password of the connections from now on.
    pub(crate) credentials: Mutex<Option<(Arc<str>, Arc<str>)>>,
    pub(crate) name: Arc<str>,
}

/// A caller that waits for longer opens another one.
const OPENING_MAX: Duration = Duration::from_millis(500);
/// How long a client may be gone without the members noticing: less than the tenth of a second, and a
/// little, that they take.
const ABSENCE_MAX: Duration = Duration::from_millis(100);
/// The pause between two attempts to be back in that time.
const ABSENCE_PAUSE: Duration = Duration::from_millis(10);
/// How long a member that replied once is known to have the connection. The other members free the
/// locks of clients that are connected to a member that stands still after 60 s.
const PROOF: Duration = Duration::from_secs(30);
impl ClientSession {
    pub(crate) fn new(settings: &Arc<Settings>, client: Uuid) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            settings: Arc::clone(settings),
            client,
            state: Mutex::new(Links::new()),
            this: Weak::clone(this),
        })
    }

    pub(crate) fn client(&self) -> Uuid {
        self.client
    }

    /// Until when the members surely know this client. Take it before a request whose effect it bounds.
    pub(crate) fn deadline(&self) -> SessionDeadline {
        self.state.lock().deadline.clone()
    }

    /// A connection to send a request over, opened if need be: the one that has replied for longest, and
    /// none that `is_used` already where there is another.
    ///
    /// # Errors
    ///
    /// Why there is none. Nothing was sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a connection that is being opened is kept for the next call.
    pub(crate) async fn link_beside(
        &self,
        until: CallDeadline,
        is_used: impl Fn(&Connection) -> bool,
    ) -> Result<Link, HazelcastError> {
        let end = Instant::now() + until.left() / 10 * 9;
        loop {
            let (mut opening, is_own) = {
                let mut state = self.state.lock();
                let opened = state.opened;
                let surplus = state.take_surplus();
                if let Some(link) = state.replying(&is_used) {
                    let link = link.clone();
                    if state.open.len() < LINKS && state.may_open_standby() {
                        self.open(&mut state);
                    }
                    drop(state);
                    drop(surplus);
                    return Ok(link);
                }
                (self.open(&mut state), state.opened != opened)
            };
            let ended =
                async { opening.wait_for(Option::is_some).await.map(|ended| ended.clone()) };
            // A while at a time: it may be that its runtime computes.
            let wait = end.min(Instant::now() + OPENING_MAX);
            match time::timeout_at(wait, ended).await {
                Ok(Ok(Some(Err(Failed::Refused(why))))) => {
                    return Err(HazelcastError::Refused(why));
                }
                // One that was begun before this call may have met a fault from before it.
                Ok(Ok(Some(Err(Failed::OutOfReach(why))))) if is_own => {
                    return Err(HazelcastError::NotSent(why.into()));
                }
                _ if Instant::now() >= end => {
                    return Err(HazelcastError::NotSent("no member has replied in time".into()));
                }
                _ => time::sleep(ABSENCE_PAUSE).await,
            }
        }
    }

    /// As [`link_beside`](Self::link_beside), for a request that is sent for the first time.
    pub(crate) async fn link(&self, until: CallDeadline) -> Result<Link, HazelcastError> {
        self.link_beside(until, |_| false).await
    }

    /// The attempt that opens a connection. Begins one if there is none.
    fn open(&self, state: &mut Links) -> Opening {
        if let Some((opening, since)) = &state.opening {
            // Without its task, which has ended with its runtime, it never gets a value; nor does it while
            // that runtime computes.
            let is_open = opening.borrow().is_none() && opening.has_changed().is_ok();
            if is_open && since.elapsed() < OPENING_MAX {
                return opening.clone();
            }
        }
        let (done, opening) = watch::channel(None);
        state.opening = Some((opening.clone(), Instant::now()));
        state.opened += 1;
        let (number, first) =
            (state.opened, state.first_address(self.settings.connector.addresses.len()));
        let this = Weak::clone(&self.this);
        let settings = Arc::clone(&self.settings);
        let client = self.client;
        // In a task of its own: its callers may leave.
        tokio::spawn(async move {
            let login = || Login {
                cluster: Arc::clone(&settings.cluster),
                credentials: settings.credentials.lock().clone(),
                client,
                name: Arc::clone(&settings.name),
            };
            let liveness = || -> Box<dyn Liveness> {
                Box::new(Report { session: Weak::clone(&this), number })
            };
            let opened = settings.connector.open(first, login, liveness).await;
            let Some(session) = this.upgrade() else { return };
            let ended = match opened {
                Ok(opened) => {
                    session.opened(opened, number);
                    Ok(())
                }
                Err(err) => {
                    session.state.lock().failed = Some(Instant::now());
                    Err(Failed::of(&err))
                }
            };
            done.send_replace(Some(ended));
        });
        opening
    }

    fn opened(&self, opened: Opened, number: u64) {
        let Opened { connection, welcome, address } = opened;
        let mut closed = Vec::new();
        {
            let mut state = self.state.lock();
            if state.cluster.is_some_and(|cluster| cluster != welcome.cluster) {
                // What was locked is another cluster's.
                state.deadline.expire();
                closed.append(&mut state.open);
            }
            state.cluster = Some(welcome.cluster);
            state.failed = None;
            if connection.is_closed() {
                return;
            }
            if state.deadline.has_expired() {
                state.deadline = SessionDeadline::new(Instant::now());
            }
            // The login was replied to a moment ago, and is proof enough until the first ping.
            state.deadline.extend(Instant::now() + PROOF / 2);
            state.open.push(Link { connection, welcome, address, number });
            if state.open.len() > LINKS_MAX {
                closed.push(state.open.remove(0));
            }
        }
        // Unlocked first: closing a connection reports it.
        drop(closed);
    }

    /// Takes a connection that a test has opened.
    #[cfg(test)]
    pub(crate) fn keep(&self, link: Link) {
        self.state.lock().open.push(link);
    }

    /// A connection is closed.
    fn lost(&self, number: u64) {
        let mut state = self.state.lock();
        let before = state.open.len();
        let gone: Vec<_> = state.open.extract_if(.., |link| link.number == number).collect();
        if state.open.len() == before {
            return;
        }
        if Handle::try_current().is_err() {
            // Its runtime is shut down, and there is none to come back on.
            if state.open.is_empty() {
                state.deadline.expire();
            }
        } else if state.open.is_empty() {
            self.open(&mut state);
            tokio::spawn(come_back(Weak::clone(&self.this), state.deadline.clone()));
        } else if state.may_open_standby() {
            self.open(&mut state);
        }
        drop(state);
        drop(gone);
    }
}

/// Opens a connection again before the members notice that all were gone, or ends the session.
async fn come_back(session: Weak<ClientSession>, deadline: SessionDeadline) {
    let until = Instant::now() + ABSENCE_MAX;
    loop {
        let mut opening = {
            let Some(session) = session.upgrade() else { return };
            let mut state = session.state.lock();
            if !state.open.is_empty() {
                return;
            }
            session.open(&mut state)
        };
        if time::timeout_at(until, opening.wait_for(Option::is_some)).await.is_err() {
            break;
        }
        time::sleep_until(until.min(Instant::now() + ABSENCE_PAUSE)).await;
        if until <= Instant::now() {
            break;
        }
    }
    let Some(session) = session.upgrade() else { return };
    let state = session.state.lock();
    if state.open.is_empty() {
        deadline.expire();
    }
}

/// What a connection reports to its session.
struct Report {
    session: Weak<ClientSession>,
    number: u64,
}

impl Liveness for Report {
    fn replied(&self, sent_at: Instant) {
        if let Some(session) = self.session.upgrade() {
            session.state.lock().deadline.extend(sent_at + PROOF);
        }
    }

    fn closed(&self) {
        if let Some(session) = self.session.upgrade() {
            session.lost(self.number);
        }
    }
}

impl fmt::Debug for ClientSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("ClientSession")
            .field("connections", &state.open.len())
            .field("deadline", &state.deadline)
            .finish_non_exhaustive()
    }
}
