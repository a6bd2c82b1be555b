//! `QueueStore`: what a store does for a queue that it keeps beside each lock.

use std::{fmt, sync::Arc, time::Duration};

use super::mutex::Mutex;
use crate::{Lease, LockError, LockId};

/// What a store does for a queue that it keeps beside each lock, in the same record or the same slot.
/// [`RecordQueue`](super::RecordQueue) is the waiter's side of it, the same for all stores.
///
/// # What the store's requests keep
///
/// - A lock that is free, with waiters, is *reserved* for the first one whose client is alive, and for no
///   longer than [`RESERVED`](Self::RESERVED): by the release, by a waiter's request that finds the lock
///   free. With the reservation the waiter leaves the queue, so one that does not claim in time has lost
///   its turn. The store notifies its client.
/// - Until the reservation is over, no other caller is granted the lock. Without waiters, nothing is
///   reserved and nothing is written.
/// - A client counts as alive for some seconds after its last request for this lock, and for as long as
///   the reservation lasts once one was made for it: a client that is gone holds up the queue once.
/// - The queue decides who may try, and nothing else. Exclusion and fencing tokens must not depend on it.
///
/// Each of these times is the store's.
pub trait QueueStore: Send + Sync + 'static {
    /// For how long a lock is reserved: longer than [`heartbeat_pause`](Self::heartbeat_pause), so that a
    /// waiter whose notification was lost learns of it in time.
    const RESERVED: Duration = Duration::from_millis(1_500);

    /// How often a client with waiters sends a heartbeat: once a second. A store that cannot notify its
    /// clients is asked more often.
    fn heartbeat_pause(&self) -> Duration {
        Duration::from_secs(1)
    }

    /// Takes the lock, where it is free and no other waiter is before this one, or where it is reserved
    /// for this one. Otherwise the waiter joins the queue behind all others, or keeps its place in it.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: a grant is undone, as by [`Call::acquire`](super::Call::acquire). The place in
    /// the queue may stay: the caller sends [`leave`](Self::leave).
    fn enter(
        &self,
        id: &LockId,
        ttl: Duration,
        waiter: WaiterId,
    ) -> impl Future<Output = Result<Entered, LockError>> + Send;

    /// Has the store notify this client from now on. Called once a waiter is in the queue.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed. The waiter then relies on heartbeats.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe.
    fn listen(&self, _id: &LockId) -> impl Future<Output = Result<Listening, LockError>> + Send {
        std::future::ready(Ok(Listening::Already))
    }

    /// Takes the waiter out of the queue. A lock that is reserved for it passes on.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed. The place is then gone with its turn.
    ///
    /// # Cancel safety
    ///
    /// Need not be cancel safe: it runs in the background.
    fn leave(
        &self,
        id: &LockId,
        waiter: WaiterId,
    ) -> impl Future<Output = Result<(), LockError>> + Send;

    /// Keeps these waiters' client alive, in one request where the store can. Of a lock that is free, either
    /// reserves it for the first waiter whose client is alive, or reports that waiter with no time left if
    /// it is this client's, which then claims. Returns what it found.
    ///
    /// # Errors
    ///
    /// [`LockError::Backend`] if the store failed.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe.
    fn heartbeat(
        &self,
        locks: &[LockWaiters],
    ) -> impl Future<Output = Result<Vec<LockStatus>, LockError>> + Send;
}

/// The name of a waiter in the store: its client's, and a number that the client uses once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WaiterId {
    /// The client.
    pub client: ClientId,
    /// The waiter's number in its client.
    pub number: u64,
}

/// The name of a client in the store: random, new with each client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId(u64);

/// What came of a request to take the lock or to join the queue.
#[derive(Debug)]
pub enum Entered {
    /// The waiter has the lock, and no place in the queue.
    Granted(Lease),
    /// The waiter is in the queue.
    Waiting {
        /// If it is the first: how long the lock is held, or reserved for another waiter, unless that
        /// changes. `None` for all others, who are notified.
        free_in: Option<Duration>,
    },
}

/// Where the attempts of one [`QueueStore::enter`] note that the waiter is in the queue. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Joined(Arc<Mutex<Option<Entered>>>);

impl Joined {
    /// The lock was refused, and the waiter is in the queue; see [`Entered::Waiting`] for `free_in`.
    pub fn note(&self, free_in: Option<Duration>) {
        *self.0.lock() = Some(Entered::Waiting { free_in });
    }

    /// What came of the attempts, of which `tried` is the result.
    ///
    /// # Errors
    ///
    /// The failure of the attempts.
    pub fn entered(&self, tried: Result<Lease, LockError>) -> Result<Entered, LockError> {
        match (tried, self.0.lock().take()) {
            (Ok(lease), _) => Ok(Entered::Granted(lease)),
            (Err(LockError::Held { .. }), Some(waiting)) => Ok(waiting),
            (Err(err), _) => Err(err),
        }
    }
}

/// Whether notifications may have been missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// The client received notifications before.
    Already,
    /// It began just now: one may have been missed since the waiter joined.
    Began,
}

/// This client's waiters for one lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockWaiters {
    /// The lock.
    pub id: LockId,
    /// The client.
    pub client: ClientId,
    /// The waiters' numbers.
    pub numbers: Vec<u64>,
}

/// What a heartbeat found out about this client's waiters for one lock.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockStatus {
    /// The waiter that the lock is reserved for.
    pub turn: Option<u64>,
    /// The waiter that is the first in the queue, and how long the lock is held or reserved.
    pub first: Option<(u64, Duration)>,
    /// The waiters that are not in the queue, and that the lock is not reserved for.
    pub lost: Vec<u64>,
}

impl ClientId {
    /// Another one each time.
    pub(crate) fn random() -> Self {
        // Without random numbers no owner token can be made, so no lock is acquired under this name.
        Self(getrandom::u64().unwrap_or_default())
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// `client:number`.
impl fmt::Display for WaiterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.client, self.number)
    }
}
