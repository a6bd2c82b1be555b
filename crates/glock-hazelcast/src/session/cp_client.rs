//! `CpClient`: what the clones of one fenced lock share.

use std::{sync::Arc, time::Duration};

use glock_core::{
    Action, Lease, LockConfig, LockError, LockId,
    toolkit::{Call, Mutex, PendingWork, WaitQueue},
};

use crate::{
    client::HazelcastClient,
    session::{
        acquire::CpAttempt,
        group::{Groups, UnsafeMode},
        names::CpNames,
        sessions::{CpSessions, SessionSettings},
    },
};

/// What the clones of one fenced lock share.
#[derive(Debug)]
pub(crate) struct CpClient {
    pub(crate) sessions: Arc<CpSessions>,
    pub(crate) names: CpNames,
    /// The order in which this client's waiters come.
    pub(crate) arrivals: WaitQueue,
    /// The first of them is the one that the members have parked.
    pub(crate) turns: WaitQueue,
    pub(crate) pending: PendingWork,
    pub(crate) settings: CpSettings,
}

/// The settings of a fenced lock.
#[derive(Debug, Clone)]
pub(crate) struct CpSettings {
    pub(crate) hazelcast: HazelcastClient,
    pub(crate) config: LockConfig,
    pub(crate) group: Option<String>,
    pub(crate) unsafe_mode: UnsafeMode,
    pub(crate) session_ttl: Duration,
}

/// Hazelcast's own default.
const SESSION_TTL: Duration = Duration::from_mins(5);

impl CpSettings {
    pub(crate) fn new(hazelcast: HazelcastClient) -> Self {
        Self {
            hazelcast,
            config: LockConfig::default(),
            group: None,
            unsafe_mode: UnsafeMode::Refused,
            session_ttl: SESSION_TTL,
        }
    }

    pub(crate) fn accept_unsafe_mode(mut self) -> Self {
        self.unsafe_mode = UnsafeMode::Accepted;
        self
    }
}

impl CpClient {
    /// # Errors
    ///
    /// [`LockError::Invalid`] for a map name that cannot work.
    pub(crate) fn new(settings: CpSettings) -> Result<Self, LockError> {
        let (names, pending) = (CpNames::new(&settings.config)?, PendingWork::new());
        let groups = Groups::new(settings.group.clone(), settings.unsafe_mode);
        let of_sessions = SessionSettings {
            label: settings.config.holder.clone(),
            labels: names.labels.clone(),
            ttl_max: settings.session_ttl,
            call_timeout: settings.config.call_timeout,
        };
        let hazelcast = settings.hazelcast.clone();
        let sessions = CpSessions::new(hazelcast, groups, of_sessions, pending.clone());
        let (arrivals, turns) = (WaitQueue::new(), WaitQueue::new());
        Ok(Self { sessions, names, arrivals, turns, pending, settings })
    }

    pub(crate) fn call(&self, action: Action) -> Call {
        self.sessions.call(action)
    }

    pub(crate) fn attempt(&self, id: &LockId, ttl: Duration, park_max: Duration) -> CpAttempt {
        let (sessions, lock) = (Arc::clone(&self.sessions), self.names.lock(id));
        CpAttempt { sessions, id: id.clone(), lock, ttl, park_max, session: Mutex::default() }
    }

    /// Tries once to take the lock.
    pub(crate) async fn acquire(&self, id: &LockId, ttl: Duration) -> Result<Lease, LockError> {
        let attempt = |_| Ok(self.attempt(id, ttl, Duration::ZERO));
        self.call(Action::Acquire).acquire_retrying(ttl, attempt).await
    }
}

impl Drop for CpClient {
    fn drop(&mut self) {
        self.sessions.abandon();
    }
}
