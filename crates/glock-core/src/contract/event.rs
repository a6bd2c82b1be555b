//! `Event`: what only guards, retry loops and queues see, reported to the lock through `observe`.

use std::{fmt, time::Duration};

use crate::LockId;

/// Something that happened around a lock and not inside one of its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A caller stopped waiting for the lock.
    Waited {
        /// The lock.
        id: &'a LockId,
        /// How long it took, from the first try on.
        waited: Duration,
        /// How it ended.
        end: WaitEnd,
    },
    /// A guard holds the lock from now on.
    HoldStarted {
        /// The lock.
        id: &'a LockId,
    },
    /// A guard has renewed its lease.
    Renewed {
        /// The lock.
        id: &'a LockId,
        /// What was left of the old lease when the new one had arrived.
        margin: Duration,
    },
    /// A guard no longer holds the lock: it was released, dropped or lost.
    HoldEnded {
        /// The lock.
        id: &'a LockId,
        /// How long it was held.
        held: Duration,
        /// Why it was lost, or `None` if it was released.
        lost: Option<LossReason>,
    },
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitEnd {
    /// The lock was granted.
    Granted,
    /// Time or retries ran out.
    GaveUp,
    /// The store failed for good.
    Failed,
    /// The waiting future was dropped.
    Cancelled,
}

impl WaitEnd {
    /// A stable name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::GaveUp => "gave_up",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Why a guard lost its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// No renewal came through before the lease's deadline.
    Expired,
    /// The store reported that the hold was ended by another client, an operator or its session's end.
    TakenAway,
    /// [`Guard::with_max_hold`](crate::Guard::with_max_hold) ran out.
    MaxHold,
    /// The runtime that renewed the lease was shut down.
    Stopped,
}

impl LossReason {
    /// A stable name for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::TakenAway => "taken_away",
            Self::MaxHold => "max_hold",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the lease ran out before it could be renewed",
            Self::TakenAway => "the store reports that the hold was ended from outside",
            Self::MaxHold => "the lock was held for as long as allowed",
            Self::Stopped => "the runtime that renewed the lease was shut down",
        })
    }
}
