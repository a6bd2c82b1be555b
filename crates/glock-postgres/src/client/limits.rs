//! `Limits`: how the time of a call is divided.

use std::time::Duration;

use glock_core::toolkit::CallDeadline;

/// How the time of a call is divided: each attempt has less than its call, so that another one on
/// another connection fits in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    call: Duration,
}

impl Limits {
    pub(crate) const fn new(call_timeout: Duration) -> Self {
        Self { call: call_timeout }
    }

    /// A call that begins now.
    pub(crate) fn call(self) -> CallDeadline {
        CallDeadline::after(self.call)
    }

    /// How long one attempt to reach the server may take, as core divides a call.
    pub(crate) fn attempt(self) -> Duration {
        self.call / 5 * 2
    }

    /// How long a statement may run, as the server counts: it replies before it counts as silent.
    pub(crate) fn statement(self) -> Duration {
        self.attempt() / 10 * 9
    }

    /// How long a statement may wait for a lock of another transaction, likewise.
    pub(crate) fn lock_wait(self) -> Duration {
        self.attempt() / 4 * 3
    }
}
