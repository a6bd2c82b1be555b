//! What the replies to commands say.

use std::time::Duration;

use glock_core::{Action, LockError};
use mongodb::bson::{Bson, Document};
use tokio::time::Instant;

use crate::error::Failure;

/// What a command that names an owner did.
pub(crate) struct Outcome {
    /// Whether the owner had the lock.
    pub(crate) was_held: bool,
    /// The instant just before the command was sent.
    pub(crate) sent_at: Instant,
    /// Whether an earlier copy of it got no reply.
    pub(crate) repeated: bool,
    /// The waiter of this client that the lock is reserved for now, where that was asked for.
    pub(crate) turn: Option<u64>,
}

/// Where the waiters are that a lock may pass on to, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiters {
    /// Some are this client's: the reply says whether it is the turn of one of them.
    Here,
    /// None is this client's.
    Elsewhere,
}

/// What a caller without a place sees of a lock.
pub(crate) enum Look {
    /// It is held or reserved for so long.
    Taken {
        left: Duration,
    },
    /// It is free, and a waiter is before the caller.
    WaitedFor,
    Free,
}

/// The documents in the reply to a `find`.
pub(crate) fn first_batch(reply: &Document, action: Action) -> Result<&[Bson], LockError> {
    let batch = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    batch.map(Vec::as_slice).map_err(|_| Failure::unexpected_reply().during(action))
}

/// A field with a number of milliseconds.
pub(crate) fn millis_of(found: &Document, name: &str) -> Duration {
    let millis = found.get_i64(name).unwrap_or(0);
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
