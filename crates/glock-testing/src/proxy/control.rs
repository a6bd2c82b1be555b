//! What the handle of a proxy and its connections share: the faults in force and the counters.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use glock_core::toolkit::Mutex;
use tokio::sync::watch;

use crate::proxy::counts::Counts;
use crate::proxy::requests::Framing;

/// The faults in force. Every connection reads them again before each step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    pub(crate) mode: Mode,
    pub(crate) delay: Duration,
    pub(crate) new_connections: NewConnections,
    /// How often all connections have been cut: one that began under a lower number is to be reset.
    pub(crate) cuts: u64,
    /// How often all connections have gone mute: one that began under a lower number moves nothing.
    pub(crate) mutes: u64,
    /// One that began under a lower number of mutes is to be reset: the fault is lifted.
    pub(crate) mutes_lifted: u64,
}

/// How many cuts and mutes there were when a connection was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Born {
    pub(crate) cuts: u64,
    pub(crate) mutes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Pass,
    HoldReplies,
    DropReplies,
    DropRequests,
    Stall,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NewConnections {
    #[default]
    Accept,
    Refuse,
}

/// Where the next request that any client sends is to be cut, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    BeforeRequest,
    InsideRequest(usize),
    AfterRequest,
    InsideReply(usize),
    /// The client is reset, and upstream gets the request so much later.
    LateRequest(Duration),
}

#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) framing: Framing,
    faults: watch::Sender<Faults>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) counts: Counts,
    pub(crate) open: usize,
    /// Connections whose client waits for an answer.
    pub(crate) open_requests: usize,
    pub(crate) armed: Option<Cut>,
}

impl Faults {
    /// For a connection that is made now.
    pub(crate) fn born(&self) -> Born {
        Born { cuts: self.cuts, mutes: self.mutes }
    }
}

impl Control {
    pub(crate) fn new(framing: Framing) -> Arc<Self> {
        let faults = watch::Sender::new(Faults::default());
        Arc::new(Self { framing, faults, state: Mutex::default() })
    }

    pub(crate) fn faults(&self) -> Faults {
        *self.faults.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Faults> {
        self.faults.subscribe()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
    }

    /// Counters, in one consistent state. Never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

/// One connection in the count of open ones, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Open(Arc<Control>);

impl Open {
    pub(crate) fn count(control: &Arc<Control>) -> Self {
        let mut state = control.state();
        state.open += 1;
        state.counts.accepted += 1;
        drop(state);
        Self(Arc::clone(control))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state().open -= 1;
    }
}
