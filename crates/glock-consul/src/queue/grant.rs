//! `Grant`: a lock that a release of this client has taken for one of its waiters.

use std::time::Duration;

use glock_core::{LockId, toolkit::RESERVED_FOR};
use tokio::time::Instant;

use crate::{queue::place::Place, session::SessionGuard};

/// A lock that a release of this client has taken for one of its waiters, by the session that had it before.
/// Dropping it ends the session, and the hold with it.
pub(crate) struct Grant {
    pub(crate) id: LockId,
    pub(crate) session: SessionGuard,
    /// The Raft index at which the session has locked the key.
    pub(crate) index: u64,
    /// The first few places behind the waiter's.
    pub(crate) next: Vec<Place>,
    since: Instant,
}

impl Grant {
    pub(crate) fn new(id: LockId, session: SessionGuard, index: u64, next: Vec<Place>) -> Self {
        Self { id, session, index, next, since: Instant::now() }
    }

    /// For how long the waiter may still take it.
    pub(crate) fn left(&self) -> Duration {
        RESERVED_FOR.saturating_sub(self.since.elapsed())
    }
}
