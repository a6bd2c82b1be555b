//! `SessionGuard` and `PendingSession`: sessions in use, which do not outlive a call that is dropped.

use std::sync::Arc;

use glock_core::{LockError, OwnerToken};
use tokio::time::Instant;

use crate::{
    error::ConsulError,
    queue::place::Place,
    session::{
        cleanup::Cleanup, holds::Hold, jobs::Job, lifetime::Session, owner::Owner,
        transfer::Transfer,
    },
};

/// A session that a call uses. Dropping the guard destroys the session in the background, unless a
/// method said otherwise: a request that used the session has then no effect, or none any more.
pub(crate) struct SessionGuard {
    session: Session,
    cleanup: Arc<Cleanup>,
    on_drop: Option<Job>,
}

/// A session/create in flight. If no reply comes, clean-up finds the session by its unique name and
/// destroys it.
pub(crate) struct PendingSession {
    pub(crate) name: String,
    cleanup: Arc<Cleanup>,
    is_known: bool,
}

/// A lease begins with at least nine tenths of its TTL: an older session is renewed beside its use.
const AGE_MAX_PART: u32 = 10;

impl SessionGuard {
    pub(crate) fn new(session: Session, cleanup: Arc<Cleanup>) -> Self {
        let on_drop = Some(Job::Destroy(session.id.clone()));
        Self { session, cleanup, on_drop }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Whether a lease may begin without a renewal of the session.
    pub(crate) fn is_fresh(&self) -> bool {
        self.session.age(Instant::now()) <= self.session.ttl / AGE_MAX_PART
    }

    /// Renews the session if a tenth of its TTL has passed. Returns `false` if it is over, or may be.
    /// Sent together with the request that uses the session, it takes no time of its own.
    pub(crate) async fn renew_if_old(&mut self) -> Result<bool, ConsulError> {
        let sent_at = Instant::now();
        if self.is_fresh() {
            return Ok(true);
        }
        let lives = self.cleanup.client.renew_session(&self.session.id).await?;
        Ok(lives && self.session.renewed(sent_at))
    }

    /// The session holds nothing: it is spare.
    pub(crate) fn give_back(mut self) {
        self.on_drop = None;
        self.cleanup.keep_spare(self.session.clone());
    }

    /// The session was granted `key` at `index`, with these waiters behind it. Returns the owner token.
    pub(crate) fn granted(
        self,
        key: &str,
        index: u64,
        next: Vec<Place>,
    ) -> Result<OwnerToken, LockError> {
        let token = Owner { session: self.session.id.clone(), index }.token()?;
        self.has(&token, key, index, next);
        Ok(token)
    }

    /// The session has `key` since `index`, by the token of a grant that was another session's.
    pub(crate) fn holds(self, token: &OwnerToken, key: &str, index: u64) {
        self.has(token, key, index, Vec::new());
    }

    fn has(mut self, token: &OwnerToken, key: &str, index: u64, next: Vec<Place>) {
        self.on_drop = None;
        let session = self.session.clone();
        let hold = Hold { key: key.into(), index, session, is_own: true, next };
        self.cleanup.holds.insert(token, hold);
    }

    /// The session is over.
    pub(crate) fn ended(mut self) {
        self.on_drop = None;
    }

    /// From now on, dropping the guard resolves a transfer to the session, which may have happened.
    pub(crate) fn resolve_on_drop(&mut self, transfer: Transfer) {
        self.on_drop = Some(Job::Resolve(Box::new(transfer)));
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        if let Some(job) = self.on_drop.take() {
            self.cleanup.start(job);
        }
    }
}

impl PendingSession {
    pub(crate) fn new(name: String, cleanup: Arc<Cleanup>) -> Self {
        Self { name, cleanup, is_known: false }
    }

    /// Its id is known, or it was not created.
    pub(crate) fn known(mut self) {
        self.is_known = true;
    }
}

impl Drop for PendingSession {
    fn drop(&mut self) {
        if !self.is_known {
            self.cleanup.find_lost(std::mem::take(&mut self.name));
        }
    }
}
