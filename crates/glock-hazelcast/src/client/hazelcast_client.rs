//! `HazelcastClient`: one cluster, as one client.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use glock_core::{
    LockError,
    toolkit::{BackgroundTask, Mutex, Worker},
};
use tokio::time::Instant;

use crate::{
    client::session::{ClientSession, Settings},
    wire::Uuid,
};

/// A client of one Hazelcast cluster. Clones, and the locks that are made from them, share its two
/// connections.
///
/// ```
/// use glock_hazelcast::HazelcastClient;
///
/// let client = HazelcastClient::builder(["10.0.0.1", "10.0.0.2:5702"]).cluster_name("prod").build()?;
/// # Ok::<(), glock_hazelcast::LockError>(())
/// ```
#[derive(Clone)]
pub struct HazelcastClient {
    sessions: Arc<Sessions>,
}

/// The sessions of a client: its own, and those of other clients whose leases it was given.
pub(crate) struct Sessions {
    settings: Arc<Settings>,
    own: Arc<ClientSession>,
    others: Arc<Others>,
    closing: BackgroundTask,
}

/// Sessions under the ids of other clients. While this client keeps a lease that another one was
/// granted, it keeps a connection under that one's id: the members free the locks of a client that has none.
#[derive(Default)]
struct Others(Mutex<HashMap<Uuid, (Arc<ClientSession>, Instant)>>);

impl HazelcastClient {
    pub(crate) fn with(settings: Arc<Settings>) -> Result<Self, LockError> {
        let own = ClientSession::new(&settings, Uuid::random()?);
        let (others, closing) = (Arc::default(), BackgroundTask::new());
        Ok(Self { sessions: Arc::new(Sessions { settings, own, others, closing }) })
    }

    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.sessions.settings
    }
}

impl Sessions {
    pub(crate) fn own(&self) -> &Arc<ClientSession> {
        &self.own
    }

    /// A session of a client that has no locks.
    ///
    /// # Errors
    ///
    /// [`LockError::Invalid`] if the operating system has no random numbers to give.
    pub(crate) fn another(&self) -> Result<Arc<ClientSession>, LockError> {
        Ok(ClientSession::new(&self.settings, Uuid::random()?))
    }

    /// The session of that client, kept at least until then.
    pub(crate) fn of(&self, client: Uuid, until: Instant) -> Arc<ClientSession> {
        if client == self.own.client() {
            return Arc::clone(&self.own);
        }
        let session = {
            let mut others = self.others.0.lock();
            let (session, end) = others
                .entry(client)
                .or_insert_with(|| (ClientSession::new(&self.settings, client), until));
            *end = until.max(*end);
            Arc::clone(session)
        };
        self.closing.start(&self.others);
        session
    }
}

/// How often sessions that are no longer needed are closed.
const SWEEP: Duration = Duration::from_secs(1);

impl Worker for Others {
    async fn round(&self) -> Option<Duration> {
        let now = Instant::now();
        let over: Vec<_> = self.0.lock().extract_if(|_, (_, end)| *end <= now).collect();
        drop(over);
        (!self.0.lock().is_empty()).then_some(SWEEP)
    }
}

impl fmt::Debug for HazelcastClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HazelcastClient")
            .field("cluster", &self.sessions.settings.cluster)
            .field("members", &self.sessions.settings.connector)
            .field("session", &self.sessions.own)
            .finish_non_exhaustive()
    }
}
