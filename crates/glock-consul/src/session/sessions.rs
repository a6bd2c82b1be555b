//! `Sessions`: creates sessions for one client's locks, and uses them again.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{LockConfig, OwnerToken, toolkit::PendingWork};
use tokio::time::Instant;

use crate::{
    client::ConsulClient,
    error::ConsulError,
    schema::Owner,
    session::{
        cleanup::{Cleanup, Job},
        guard::{PendingSession, SessionGuard},
        holds::HoldTable,
        lifetime::Session,
    },
};

/// The sessions of one client. Each hold has one to itself. A session that is given back is spare, so
/// that the next acquire takes one round trip. Spares are destroyed when they are unused for long, and
/// when this value is dropped.
pub(crate) struct Sessions {
    cleanup: Arc<Cleanup>,
    /// How the names of its sessions begin; no other client's do.
    name: String,
    created: AtomicU64,
}

/// The label in a name is for people who read the list of sessions: a part of a long one is enough.
const LABEL_MAX: usize = 128;

impl Sessions {
    pub(crate) fn new(client: ConsulClient, config: &LockConfig, pending: &PendingWork) -> Self {
        // Without random numbers names may repeat, but then Consul grants nothing either.
        let random = OwnerToken::random().map_or(String::new(), |token| token.reveal().into());
        let label: String = config.holder.chars().take(LABEL_MAX).collect();
        let name = format!("{} {label} {random}", config.namespace);
        Self {
            cleanup: Cleanup::new(client, config.call_timeout, pending),
            name,
            created: AtomicU64::new(0),
        }
    }

    /// Which session each hold is on.
    pub(crate) fn holds(&self) -> &HoldTable {
        &self.cleanup.holds
    }

    /// A session for one hold. A spare may be over already: its use shows it.
    pub(crate) async fn take(&self, ttl: Duration) -> Result<SessionGuard, ConsulError> {
        match self.cleanup.take_spare(ttl) {
            Some(spare) => Ok(self.guard(spare)),
            None => self.create(ttl).await,
        }
    }

    /// A new session.
    pub(crate) async fn create(&self, ttl: Duration) -> Result<SessionGuard, ConsulError> {
        match self.create_once(ttl).await {
            Err(ConsulError::ReplyLost(_)) => self.create_once(ttl).await,
            created => created,
        }
    }

    /// Takes back the session of a hold, which ends here. It comes with a guard if this client created
    /// it.
    pub(crate) fn reclaim(
        &self,
        token: &OwnerToken,
        key: &str,
    ) -> Option<(Owner, Option<SessionGuard>)> {
        let hold = self.holds().take(token, key)?;
        Some((hold.owner(), hold.is_own.then(|| self.guard(hold.session))))
    }

    /// Destroys a session, and the hold that it may have.
    pub(crate) async fn destroy(&self, session: &str) -> Result<(), ConsulError> {
        self.cleanup.forget_session(session);
        self.cleanup.client.destroy_session(session).await
    }

    /// Destroys a session in the background.
    pub(crate) fn destroy_later(&self, session: String) {
        self.cleanup.forget_session(&session);
        self.cleanup.start(Job::Destroy(session));
    }

    async fn create_once(&self, ttl: Duration) -> Result<SessionGuard, ConsulError> {
        let name = format!("{}.{}", self.name, self.created.fetch_add(1, Relaxed));
        let pending = PendingSession::new(name, Arc::clone(&self.cleanup));
        let renewed_at = Instant::now();
        let created = self.cleanup.client.create_session(&pending.name, ttl).await;
        if !created.as_ref().is_err_and(ConsulError::is_unknown) {
            pending.known();
        }
        created.map(|id| self.guard(Session { id, ttl, renewed_at }))
    }

    fn guard(&self, session: Session) -> SessionGuard {
        SessionGuard::new(session, Arc::clone(&self.cleanup))
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.cleanup.close();
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
