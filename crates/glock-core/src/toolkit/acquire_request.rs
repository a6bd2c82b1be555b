//! `AcquireRequest` and `AcquireReply`: what takes a lock, for stores whose grants have nothing more than a
//! token.

use std::time::Duration;

use tokio::time::Instant;

use super::joining::Joining;
use crate::{FencingToken, Holder, Lease, LockError, LockId, OwnerToken};

/// What a request to take a lock needs beside its client.
#[derive(Debug, Clone, Copy)]
pub struct AcquireRequest<'a> {
    /// The lock's key in the store.
    pub key: &'a str,
    /// The owner token of this request alone.
    pub owner: &'a OwnerToken,
    /// How long the lease lasts.
    pub ttl: Duration,
    /// The holder's label.
    pub holder: &'a str,
}

/// What the store replies to it.
#[derive(Debug)]
pub enum AcquireReply {
    /// The lock is granted.
    Granted {
        /// The grant's fencing token.
        fence: FencingToken,
        /// The instant just before the request was sent.
        sent_at: Instant,
    },
    /// It is refused. There is no holder where a waiter is before the caller, or if locks changed hands
    /// meanwhile.
    Held(Option<Holder>),
    /// It is refused, and the caller's waiter is in the queue: see [`Joining::note`].
    Waiting {
        /// If the waiter is the first: how long the lock is held or reserved.
        free_in: Option<Duration>,
        /// The waiter of this client that the lock is reserved for.
        turn: Option<u64>,
    },
}

impl AcquireReply {
    /// The lease of a request that was sent with this owner token and TTL. A request that may join names
    /// what joins.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] if it was refused.
    pub fn lease(
        self,
        id: &LockId,
        owner: &OwnerToken,
        ttl: Duration,
        joining: Option<&Joining>,
    ) -> Result<Lease, LockError> {
        let holder = match self {
            Self::Granted { fence, sent_at } => {
                return Ok(Lease::granted(id.clone(), owner.clone(), fence, sent_at, ttl));
            }
            Self::Held(holder) => holder.map(Box::new),
            Self::Waiting { free_in, turn } => {
                if let Some(joining) = joining {
                    joining.note(free_in, turn);
                }
                None
            }
        };
        Err(LockError::Held { id: id.clone(), holder })
    }
}
