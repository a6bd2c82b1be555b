//! `Sessions`: creates sessions for one client's locks, and uses them again.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use glock_core::{
    LockConfig, OwnerToken,
    toolkit::{PendingWork, WaiterRegistry},
};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{self, Instant},
};

use crate::{
    client::ConsulClient,
    commands::lock,
    error::ConsulError,
    queue::{keys::ROOT, place::Place},
    session::{
        cleanup::Cleanup,
        guard::{PendingSession, SessionGuard},
        holds::HoldTable,
        jobs::Job,
        lifetime::Session,
        owner::Owner,
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
    /// The TTL of the session that places in queues belong to.
    places_ttl: Duration,
    /// What the keys of this client's turns begin with.
    turns: String,
    /// One at a time creates that session, or renews it.
    places: AsyncMutex<()>,
}

/// A hold that ends here.
pub(crate) struct Reclaimed {
    pub(crate) owner: Owner,
    /// Its session, if this client created it.
    pub(crate) session: Option<SessionGuard>,
    /// The first few waiters, as of the grant.
    pub(crate) next: Vec<Place>,
}

/// How long a call waits for another one that creates or renews that session.
const CREATION_MAX: Duration = Duration::from_secs(1);
/// The shortest TTL of the session for places: a heartbeat renews it.
const PLACES_TTL_MIN: Duration = Duration::from_secs(10);
/// The label in a name is for people who read the list of sessions: a part of a long one is enough.
const LABEL_MAX: usize = 128;

impl Sessions {
    pub(crate) fn new(
        client: ConsulClient,
        config: &LockConfig,
        ttl_min: Duration,
        pending: &PendingWork,
        (registry, turns): (&WaiterRegistry, &str),
    ) -> Self {
        // Without random numbers names may repeat, but then Consul grants nothing either.
        let random = OwnerToken::random().map_or(String::new(), |token| token.reveal().into());
        let label: String = config.holder.chars().take(LABEL_MAX).collect();
        let name = format!("{} {label} {random}", config.namespace);
        Self {
            cleanup: Cleanup::new(client, config.call_timeout, pending, registry),
            name,
            created: AtomicU64::new(0),
            places_ttl: ttl_min.max(PLACES_TTL_MIN),
            turns: turns.into(),
            places: AsyncMutex::new(()),
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

    /// Takes back the session of a hold, which ends here.
    pub(crate) fn reclaim(&self, token: &OwnerToken, key: &str) -> Option<Reclaimed> {
        let hold = self.holds().take(token, key)?;
        let owner = hold.owner();
        let session = hold.is_own.then(|| self.guard(hold.session));
        Some(Reclaimed { owner, session, next: hold.next })
    }

    /// The session that this client's places in queues belong to. It is not used for holds. `ttl` is that of a
    /// waiter's lease.
    pub(crate) async fn of_places(&self, ttl: Duration) -> Result<String, ConsulError> {
        if let Some(session) = self.cleanup.places.usable() {
            return Ok(session);
        }
        // Not for longer: its holder may not be polled any more.
        let _one = time::timeout(CREATION_MAX, self.places.lock()).await;
        if let Some(session) = self.renewed_places().await? {
            return Ok(session);
        }
        let guard = match self.create(self.places_ttl).await {
            // The servers' shortest is longer than this lock was told; that of the waiter's lease is not.
            Err(err) if err.is_ttl_refused() => self.create(ttl).await?,
            created => created?,
        };
        let session = guard.session().clone();
        let id = session.id.clone();
        // A query for the turns would return at each change of any key, if there were none.
        let root = vec![lock(&format!("{}{ROOT}{id}", self.turns), &id, &())?];
        self.cleanup.client.transaction(root).await??;
        if let Some(before) = self.cleanup.keep_places(session) {
            self.destroy_later(before.id);
        }
        guard.ended();
        Ok(id)
    }

    /// Renews that session if it is due. A failure is tried again with the next heartbeat.
    pub(crate) async fn renew_places(&self) {
        if self.cleanup.places.usable().is_none() {
            let _one = time::timeout(CREATION_MAX, self.places.lock()).await;
            let _ = self.renewed_places().await;
        }
    }

    /// That session, renewed unless another call has done so meanwhile. `None` if there is none.
    async fn renewed_places(&self) -> Result<Option<String>, ConsulError> {
        if self.cleanup.places.usable().is_none() {
            self.cleanup.places.renew(&self.cleanup.client).await?;
        }
        Ok(self.cleanup.places.usable())
    }

    /// That session, which had this id, is over.
    pub(crate) fn places_lost(&self, session: &str) {
        self.cleanup.places.forget(session);
    }

    /// Deletes a mark in a while, if no waiter has joined since it had this index.
    pub(crate) fn delete_mark_later(&self, mark: String, index: u64) {
        self.cleanup.delete_mark_later(mark, index);
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
