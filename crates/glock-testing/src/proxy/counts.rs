//! What has passed through a proxy, in numbers that a test can subtract.

use std::ops::Sub;

/// What clients and the upstream server sent into the proxy, since its start or the last reset.
///
/// Counted on arrival: a byte that a fault keeps back or swallows afterwards has still been sent. A *turn* begins with the
/// first client byte of a connection, or the first one after bytes of the server.
///
/// ```
/// use glock_testing::proxy::Counts;
///
/// let (before, after) = (Counts::default(), Counts { round_trips: 1, ..Counts::default() });
/// assert_eq!((after - before).round_trips, 1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections taken from clients and joined to the upstream server.
    pub accepted: u64,
    /// Connections that the proxy has reset, for whatever fault.
    pub resets: u64,
    /// Requests that upstream has answered after their client was gone.
    pub late: u64,
    /// Turns that a client began. Requests sent without waiting for an answer are one turn.
    pub requests: u64,
    /// Requests, however many are sent at once, as far as the proxy knows how they are delimited:
    /// see [`Framing`](crate::proxy::Framing).
    pub asked: u64,
    /// Turns that a client began while no client waited for a reply: what is on its way together, on
    /// whatever connections, is one.
    pub in_a_row: u64,
    /// Times that the server began to speak: after a client, or unasked on a new connection.
    pub replies: u64,
    /// Turns that the server answered. What it says unasked is none.
    pub round_trips: u64,
    /// Bytes from clients.
    pub bytes_up: u64,
    /// Bytes from the server.
    pub bytes_down: u64,
}

impl Sub for Counts {
    type Output = Self;

    /// What came since `earlier`; nothing where the counters were reset in between.
    fn sub(self, earlier: Self) -> Self {
        Self {
            accepted: self.accepted.saturating_sub(earlier.accepted),
            resets: self.resets.saturating_sub(earlier.resets),
            late: self.late.saturating_sub(earlier.late),
            requests: self.requests.saturating_sub(earlier.requests),
            asked: self.asked.saturating_sub(earlier.asked),
            in_a_row: self.in_a_row.saturating_sub(earlier.in_a_row),
            replies: self.replies.saturating_sub(earlier.replies),
            round_trips: self.round_trips.saturating_sub(earlier.round_trips),
            bytes_up: self.bytes_up.saturating_sub(earlier.bytes_up),
            bytes_down: self.bytes_down.saturating_sub(earlier.bytes_down),
        }
    }
}
