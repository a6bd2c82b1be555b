//! `QueuePosition`: where a waiter is in the queue.

use glock_core::Lease;

use crate::commands::Predecessor;

/// Where a waiter is in the queue.
#[derive(Debug)]
pub(crate) enum QueuePosition {
    /// It was the first, and has the lock.
    First(Lease),
    /// This key is before it.
    Behind(Predecessor),
    /// Its key is gone: its session has ended, or an operator deleted the key.
    Lost,
}
