//! `Links`: the connections of one session, and the attempt to open another.

use std::time::Duration;

use glock_core::toolkit::SessionDeadline;
use tokio::{sync::watch, time::Instant};

use crate::{
    client::link::{Failed, Link},
    wire::{Connection, Uuid},
};

/// The connections of one session, and the attempt to open another.
pub(crate) struct Links {
    pub(crate) open: Vec<Link>,
    /// The latest attempt to open one, and since when.
    pub(crate) opening: Option<(Opening, Instant)>,
    pub(crate) deadline: SessionDeadline,
    pub(crate) cluster: Option<Uuid>,
    /// The address that the next connection is opened to.
    pub(crate) next: usize,
    /// When a connection beside the first could not be opened.
    pub(crate) failed: Option<Instant>,
    /// How often a connection was opened.
    pub(crate) opened: u64,
}

/// An attempt to open a connection. It has a value once the attempt has ended.
pub(crate) type Opening = watch::Receiver<Option<Result<(), Failed>>>;

/// One to use, and one that keeps the locks while the other is replaced.
pub(crate) const LINKS: usize = 2;
/// Those that are silent are kept beside them, as they may still reply. A connection that is closed makes its
/// member drop what this client has parked.
pub(crate) const LINKS_MAX: usize = 4;
/// The pause before another attempt to open a second connection.
const STANDBY_PAUSE: Duration = Duration::from_secs(1);

impl Links {
    /// None, and a session that has never begun.
    pub(crate) fn new() -> Self {
        let deadline = SessionDeadline::new(Instant::now());
        let (open, opening, cluster, failed) = (Vec::new(), None, None, None);
        Self { open, opening, deadline, cluster, next: 0, failed, opened: 0 }
    }

    /// A connection that replies: one that is not used already, or else any.
    pub(crate) fn replying(&self, is_used: impl Fn(&Connection) -> bool) -> Option<&Link> {
        let mut replying = self.open.iter().filter(|link| link.replies());
        replying.clone().find(|link| !is_used(&link.connection)).or_else(|| replying.next())
    }

    /// Takes out a connection that took the place of one which was silent and replies again.
    pub(crate) fn take_surplus(&mut self) -> Option<Link> {
        let replying = self.open.iter().filter(|link| link.replies()).count();
        if replying > LINKS { self.open.pop() } else { None }
    }

    pub(crate) fn may_open_standby(&self) -> bool {
        self.failed.is_none_or(|at| at.elapsed() >= STANDBY_PAUSE)
    }

    /// An address of no connection, where there is one.
    pub(crate) fn first_address(&mut self, count: usize) -> usize {
        for _ in 0..count {
            let address = self.next % count;
            self.next = address + 1;
            if self.open.iter().all(|link| link.address != address) {
                return address;
            }
        }
        self.next
    }
}
