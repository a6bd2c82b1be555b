//! `Grant`: a lock that a release of this client has taken for one of its waiters.

use std::time::Duration;

use glock_core::toolkit::RESERVED_FOR;
use tokio::time::Instant;

use crate::{queue::place::Place, session::SessionGuard};

/// A lock that a release of this client has taken for one of its waiters, by the session that had it before.
/// Dropping it ends the session, and the hold with it.
pub(crate) struct Grant {
    pub(crate) session: SessionGuard,
    /// The Raft index at which the session has locked the key.
    pub(crate) index: u64,
    /// The first few places behind the waiter's.
    pub(crate) next: Vec<Place>,
    since: Instant,
}

impl Grant {
    pub(crate) fn new(session: SessionGuard, index: u64, next: Vec<Place>) -> Self {
        Self { session, index, next, since: Instant::now() }
    }

    /// For how long the waiter may still take it; `None` if that is over.
    pub(crate) fn untaken_for(&self) -> Option<Duration> {
        let left = RESERVED_FOR.saturating_sub(self.since.elapsed());
        (!left.is_zero()).then_some(left)
    }
}
