//! `EndWatch`: waits for a store to notify that a hold is over.

use std::{future::pending, sync::Arc};

use crate::{
    Lease, Lock, OwnerToken,
    toolkit::{SessionDeadline, Task},
};

/// Sleeps until the store notifies that the hold is over, if the store does. It stays in place over
/// renewals, because a store may have to read its history for each new watch.
pub(crate) struct EndWatch(Option<Box<Watched>>);

struct Watched {
    /// The owner of the hold, and its session.
    owner: OwnerToken,
    session: Option<SessionDeadline>,
    ended: Task,
}

impl EndWatch {
    pub(crate) fn of<L: Lock>(lock: &Arc<L>, lease: &Lease) -> Self {
        if lock.ended(lease).is_none() {
            return Self(None);
        }
        let (lock, watched) = (Arc::clone(lock), lease.duplicate());
        let ended = Box::pin(async move {
            match lock.ended(&watched) {
                Some(ended) => ended.await,
                None => pending().await,
            }
        });
        let (owner, session) = (lease.owner().clone(), lease.session().cloned());
        Self(Some(Box::new(Watched { owner, session, ended })))
    }

    /// Whether it is of the hold as a renewal has left it.
    pub(crate) fn is_of(&self, lease: &Lease) -> bool {
        let watched = self.0.as_ref();
        watched
            .is_none_or(|it| it.owner == *lease.owner() && it.session.as_ref() == lease.session())
    }

    /// Returns once the store has notified that the hold is over.
    pub(crate) async fn ended(&mut self) {
        match &mut self.0 {
            Some(watched) => (&mut watched.ended).await,
            None => pending().await,
        }
    }
}
