//! `QueueStore`: what a store does for a queue that it keeps beside each lock.

use std::time::Duration;

use super::{
    joining::Joining,
    waiters::{LockStatus, LockWaiters, WaiterId},
};
use crate::{Lease, LockError, LockId};

/// For how long a lock is reserved: longer than the pause between two heartbeats, so that a waiter whose
/// notification was lost learns of it in time.
pub const RESERVED_FOR: Duration = Duration::from_millis(1_500);
/// For how long a client counts as alive after its last request for a lock that it waits for.
pub const ALIVE_FOR: Duration = Duration::from_secs(5);
/// A heartbeat that takes longer is sent again.
pub const HEARTBEAT_MAX: Duration = Duration::from_secs(3);
const EXPIRY_SLACK: Duration = Duration::from_millis(2);
/// How often a client with waiters sends a heartbeat.
const HEARTBEAT_PAUSE: Duration = Duration::from_secs(1);

/// What a store does for a queue that it keeps beside each lock, in the same record or the same slot.
/// [`RecordQueue`](super::RecordQueue) is the waiter's side of it, the same for all stores.
///
/// # What the store's requests keep
///
/// - A lock that is free, with waiters, is *reserved* for the first one whose client is alive, and for no
///   longer than [`RESERVED_FOR`]: by the release, by a waiter's request that finds the lock
///   free. With the reservation the waiter leaves the queue, so one that does not claim in time has lost
///   its turn. The store notifies its client.
/// - Until the reservation is over, no other caller is granted the lock. Without waiters, nothing is
///   reserved and nothing is written.
/// - A client counts as alive for [`ALIVE_FOR`] after its last request for this lock, and for as long as
///   the reservation lasts once one was made for it: a client that is gone holds up the queue once.
/// - The queue decides who may try, and nothing else. Exclusion and fencing tokens must not depend on it.
///
/// Each of these times is the store's. A store without a clock has its clients count for how long they have seen a lock
/// reserved, with [`ObservedReservations`](super::ObservedReservations); a place may then last until its turn.
pub trait QueueStore: Send + Sync + 'static {
    /// How often a client with waiters sends a heartbeat: once a second. A store that cannot notify its
    /// clients is asked more often.
    fn heartbeat_pause(&self) -> Duration {
        HEARTBEAT_PAUSE
    }

    /// What is added to the remaining time of a hold, so that the lock is free when the claim arrives: 2 ms. None
    /// where a claim that comes too early looks again.
    fn expiry_slack(&self) -> Duration {
        EXPIRY_SLACK
    }

    /// Takes the lock, where it is free and no other waiter is before this one, or where it is reserved
    /// for this one. Otherwise the waiter joins the queue behind all others, or keeps its place in it.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] once the waiter is in the queue, which is noted in `joining`.
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
        joining: &Joining,
    ) -> impl Future<Output = Result<Lease, LockError>> + Send;

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

/// Whether notifications may have been missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// The client received notifications before.
    Already,
    /// It began just now: one may have been missed since the waiter joined.
    Began,
}
